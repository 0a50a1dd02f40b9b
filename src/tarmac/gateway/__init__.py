"""The gateway: HAProxy is the data path, and a brain in Python tells it what to do.

    supervisor ── prepare() ──> haproxy.cfg … ── starts ──> HAProxy  <── requests
                                                             │   ▲
    control plane ── routes, keys ──> brain ── runtime API ──┘   │ lines of the access log, held requests
                  <── wake ─────────        <────────────────────┘

`config` says what HAProxy does with a request; `routes` how it is told of apps while it runs; `brain` puts all of it
together. HAProxy goes on serving while the brain or the control plane is away.
"""
