-- Which version of a task is the current one: what a call without a version means. A deployment moves it, also back.
-- Until now that was the version registered last. Which of those were deployed, and which came with a run, is unknown.

create table current_tasks (
  project {text} not null,
  domain {text} not null,
  name {text} not null,
  version {text} not null,
  since double precision not null,
  deployed integer not null,
  primary key (project, domain, name)
);

insert into current_tasks (project, domain, name, version, since, deployed)
select t.project, t.domain, t.name, t.version, t.created, 0 from tasks t where not exists (
  select 1 from tasks n where n.project = t.project and n.domain = t.domain and n.name = t.name
  and (n.created, n.version) > (t.created, t.version));
