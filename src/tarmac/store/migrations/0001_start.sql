-- Run on SQLite and on PostgreSQL; {text}, {bytes} and {big} are the one's or the other's types.
-- Numbers of a size that grows are {big}; text is compared byte by byte on both.

create table meta (
  name {text} primary key,
  value {big} not null
);

-- Counts the control planes that had this store; only the one that took the last number may write.
insert into meta (name, value) values ('epoch', 0);

create table runs (
  name {text} primary key,
  project {text} not null,
  domain {text} not null,
  task {text} not null,
  version {text} not null,
  created double precision not null,
  created_by {text} not null,
  idempotency_key {text},
  request {bytes} not null,
  labels {text} not null
);
create unique index runs_idempotency on runs (project, domain, idempotency_key) where idempotency_key is not null;
create index runs_newest on runs (project, domain, created, name);
create index runs_of_task on runs (project, domain, task, created, name);
create index runs_of_version on runs (project, domain, version, created, name);

create table run_labels (
  scope {text} not null,
  label {text} not null,
  value {text} not null,
  created double precision not null,
  run {text} not null,
  primary key (scope, label, value, created, run)
);

create table actions (
  run {text} not null,
  name {text} not null,
  parent {text},
  task {text} not null,
  version {text} not null,
  phase {text} not null,
  attempt integer not null,
  user_failures integer not null,
  system_failures integer not null,
  group_name {text},
  sequence integer not null,
  inputs {bytes},
  inputs_blob {text},
  outputs {bytes},
  outputs_blob {text},
  error {bytes},
  message {text} not null,
  spec {bytes},
  custom_context {text} not null,
  created double precision not null,
  started double precision,
  ended double precision,
  kind {text} not null,
  scope {text},
  primary key (run, name)
);
-- `scope` is the run's project/domain, for root actions only: runs of one phase are found here without reading others'.
create index actions_root on actions (phase, scope, created, run) where name = 'a0';
create index actions_of_run on actions (run, created, name);
create index actions_of_parent on actions (run, parent, created, name);

create table attempts (
  run {text} not null,
  action {text} not null,
  number integer not null,
  phase {text} not null,
  started double precision,
  ended double precision,
  error {bytes},
  unit {text},
  primary key (run, action, number)
);

-- A subject is `stream` or `stream/member`: all actions of a run share a stream and are read in order without sorting.
create table events (
  seq {big} primary key,
  at double precision not null,
  stream {text} not null,
  member {text} not null,
  phase {text} not null,
  message {text} not null,
  attempt integer not null,
  body {text} not null
);
create index events_of_stream on events (stream, seq);
create index events_of_member on events (stream, member, seq);

create table tasks (
  project {text} not null,
  domain {text} not null,
  name {text} not null,
  version {text} not null,
  short_name {text} not null,
  environment {text} not null,
  spec {bytes} not null,
  bundle {text},
  root {text},
  sys_path {text} not null,
  created double precision not null,
  function {text} not null,
  primary key (project, domain, name, version)
);
create index tasks_newest on tasks (project, domain, name, created, version);
create index tasks_of_function on tasks (project, domain, function, created);

create table apps (
  project {text} not null,
  domain {text} not null,
  name {text} not null,
  port integer not null,
  version {text},
  wanted {text} not null,
  status {text} not null,
  message {text} not null,
  created double precision not null,
  updated double precision not null,
  env_vars {text} not null,
  parameters {text} not null,
  primary key (project, domain, name)
);

create table app_versions (
  project {text} not null,
  domain {text} not null,
  name {text} not null,
  version {text} not null,
  spec {bytes} not null,
  bundle {text},
  root {text},
  sys_path {text} not null,
  created double precision not null,
  digest {text} not null,
  primary key (project, domain, name, version)
);

create table deployments (
  id {text} primary key,
  project {text} not null,
  domain {text} not null,
  version {text} not null,
  phase {text} not null,
  record {bytes} not null,
  created double precision not null
);
create index deployments_newest on deployments (created, id);
create index deployments_of_phase on deployments (phase, created, id);

create table secrets (
  project {text} not null,
  domain {text} not null,
  name {text} not null,
  sealed {bytes} not null,
  created double precision not null,
  updated double precision not null,
  primary key (project, domain, name)
);

create table keys (
  id {text} primary key,
  name {text} not null,
  digest {text} not null,
  created double precision not null,
  last_used double precision,
  scopes {text} not null
);

create table projects (
  id {text} primary key,
  name {text} not null,
  description {text} not null,
  labels {text} not null,
  archived integer not null
);
