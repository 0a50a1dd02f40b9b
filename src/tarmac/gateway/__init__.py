"""The gateway: HAProxy is the data path, and a controller in Python configures it.

    supervisor ── prepare() ──> haproxy.cfg … ── starts ──> HAProxy  <── requests
                                                             │   ▲
    control plane ── routes, keys ──> controller ── runtime API ──┘   │ lines of the access log, held requests
                  <── wake ─────────        <────────────────────┘

`config` renders what HAProxy does with a request, `routes` computes the commands that change its routes while it runs,
and `controller` puts all of it together. HAProxy goes on serving while the controller or the control plane is away.
"""
