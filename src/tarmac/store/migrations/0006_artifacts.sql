-- Versions of artifacts: files, folders and data frames that are known by a name.

create table artifacts (
  project {text} not null,
  domain {text} not null,
  name {text} not null,
  version {text} not null,
  kind {text} not null,
  description {text} not null,
  attrs {text} not null,
  card {bytes},
  content {bytes} not null,
  json_schema {bytes} not null,
  created double precision not null,
  created_by {text} not null,
  run {text},
  action {text},
  attempt integer,
  external_ref {text},
  primary key (project, domain, name, version)
);

create index artifacts_by_age on artifacts (project, domain, created);

create index artifacts_by_run on artifacts (run);
