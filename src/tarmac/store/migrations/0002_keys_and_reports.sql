-- A run has the idempotency key that started it in its own row, and here those that came later with its name.

create table run_keys (
  project {text} not null,
  domain {text} not null,
  idempotency_key {text} not null,
  run {text} not null,
  primary key (project, domain, idempotency_key)
);

-- The last report of each attempt. Until now every one that was ever shown was in the event that told of it.

create table reports (
  run {text} not null,
  action {text} not null,
  attempt integer not null,
  at double precision not null,
  html {text} not null,
  primary key (run, action, attempt)
);

insert into reports (run, action, attempt, at, html)
select substr(e.stream, 5), e.member, e.attempt, e.at, {report} from events e
where e.stream like 'run/%' and e.body like '{"progress":%{"report":%' and {report} is not null and not exists (
  select 1 from events n where n.stream = e.stream and n.member = e.member and n.seq > e.seq
  and n.attempt = e.attempt and n.body like '{"progress":%{"report":%');

update events set body = '{"progress":{"report":{}}}'
where stream like 'run/%' and body like '{"progress":%{"report":%' and exists (
  select 1 from reports r
  where events.stream = 'run/' || r.run and events.member = r.action and events.attempt = r.attempt);
