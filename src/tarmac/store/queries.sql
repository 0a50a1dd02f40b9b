-- Every query of the store, run on SQLite and on PostgreSQL.
--
-- `-- name: x` begins the query x. `:name` is a parameter. In braces: `columns T a` are the columns of table T with
-- the prefix `a.`, `values T` its parameters, `replaced T` its columns in an upsert; other words are the dialect's
-- (queries.py, sqlite.py, postgres.py). `cross join` keeps the order in which SQLite walks the tables; PostgreSQL
-- decides for itself.

-- name: migrations
create table if not exists migrations (number integer primary key, name {text} not null, applied double precision not null)

-- name: migrated
select number from migrations order by number

-- name: add_migration
insert into migrations (number, name, applied) values (:number, :name, :applied)

-- ---------------------------------------------------------------------------------------------- the writer's place

-- name: epoch
select value from meta where name = 'epoch' {locked}

-- name: next_epoch
update meta set value = value + 1 where name = 'epoch'

-- name: last_seq
select coalesce(max(seq), 0) from events

-- --------------------------------------------------------------------------------------------------------- writing

-- name: add_run
insert into runs ({columns runs}) values ({values runs}) on conflict do nothing

-- name: add_label
insert into run_labels (scope, label, value, created, run) values (:scope, :label, :value, :created, :run)

-- name: add_run_key
insert into run_keys ({columns run_keys}) values ({values run_keys}) on conflict do nothing

-- name: add_action
insert into actions ({columns actions}, scope)
values ({values actions},
        case when :name = 'a0' then (select r.project || '/' || r.domain from runs r where r.name = :run) end)
on conflict do nothing

-- name: move_action
-- Promises 1 to 3: only the row that is still where the writer believes it to be; it never leaves a terminal phase.
-- What never changes is not set, so that only the index on the phase is touched.
update actions set
  task = :task, version = :version, phase = :phase, attempt = :attempt,
  user_failures = :user_failures, system_failures = :system_failures, group_name = :group, sequence = :sequence,
  inputs = :inputs, inputs_blob = :inputs_blob, outputs = :outputs, outputs_blob = :outputs_blob,
  error = :error, message = :message, spec = :spec, custom_context = :custom_context,
  started = :started, ended = :ended, cache_key = :cache_key, cache = :cache
where run = :run and name = :name and attempt = :was_attempt and phase = :was_phase and phase not in ({terminal})

-- name: put_attempt
insert into attempts ({columns attempts}) values ({values attempts})
on conflict (run, action, number) do update set {replaced attempts}

-- name: put_report
insert into reports ({columns reports}) values ({values reports})
on conflict (run, action, attempt) do update set {replaced reports}

-- name: put_cache
insert into cache ({columns cache}) values ({values cache}) on conflict (key) do update set {replaced cache}

-- name: put_artifacts
insert into artifacts ({columns artifacts}) values ({values artifacts})
on conflict (project, domain, name, version) do update set {replaced artifacts}

-- name: delete_artifacts
delete from artifacts where project = :key0 and domain = :key1 and name = :key2 and version = :key3

-- name: delete_cache
delete from cache where key = :key0

-- name: add_event
insert into events ({columns events}) values ({values events}) on conflict do nothing

-- name: add_task
-- The same version again is welcome (its code may lie elsewhere now); with another spec or bundle it is refused.
insert into tasks ({columns tasks}, function) values ({values tasks}, :function)
on conflict (project, domain, name, version) do update set root = excluded.root, sys_path = excluded.sys_path
where tasks.spec = excluded.spec and coalesce(tasks.bundle, '') = coalesce(excluded.bundle, '')

-- name: put_current_tasks
-- What a deployment made current is moved by deployments only.
insert into current_tasks ({columns current_tasks}) values ({values current_tasks})
on conflict (project, domain, name) do update set {replaced current_tasks}
where excluded.deployed = 1 or current_tasks.deployed = 0

-- name: put_apps
insert into apps ({columns apps}) values ({values apps})
on conflict (project, domain, name) do update set {replaced apps}

-- name: put_app_versions
insert into app_versions ({columns app_versions}) values ({values app_versions})
on conflict (project, domain, name, version) do update set {replaced app_versions}

-- name: put_deployments
insert into deployments ({columns deployments}) values ({values deployments})
on conflict (id) do update set {replaced deployments}

-- name: put_images
insert into images ({columns images}) values ({values images}) on conflict (id) do update set {replaced images}

-- name: put_secrets
insert into secrets ({columns secrets}) values ({values secrets})
on conflict (project, domain, name) do update set {replaced secrets}

-- name: put_keys
insert into keys ({columns keys}) values ({values keys}) on conflict (id) do update set {replaced keys}

-- name: put_projects
insert into projects ({columns projects}) values ({values projects}) on conflict (id) do update set {replaced projects}

-- name: delete_run
delete from runs where name = :name

-- name: delete_label
delete from run_labels
where scope = :scope and label = :label and value = :value and created = :created and run = :run

-- name: delete_keys_of_run
delete from run_keys where run = :name

-- name: delete_actions_of_run
delete from actions where run = :name

-- name: delete_attempts_of_run
delete from attempts where run = :name

-- name: delete_reports_of_run
delete from reports where run = :name

-- name: delete_events_of_run
delete from events where stream = :stream

-- name: put_triggers
insert into triggers ({columns triggers}) values ({values triggers})
on conflict (project, domain, task, name) do update set {replaced triggers}

-- name: delete_triggers
delete from triggers where project = :key0 and domain = :key1 and task = :key2 and name = :key3

-- name: delete_tasks
delete from tasks where project = :key0 and domain = :key1 and name = :key2 and version = :key3

-- name: delete_current_tasks
delete from current_tasks where project = :key0 and domain = :key1 and name = :key2

-- name: delete_apps
delete from apps where project = :key0 and domain = :key1 and name = :key2

-- name: delete_versions_of_app
delete from app_versions where project = :key0 and domain = :key1 and name = :key2

-- name: delete_app_versions
delete from app_versions where project = :key0 and domain = :key1 and name = :key2 and version = :key3

-- name: delete_deployments
delete from deployments where id = :key0

-- name: delete_images
delete from images where id = :key0

-- name: delete_secrets
delete from secrets where project = :key0 and domain = :key1 and name = :key2

-- name: delete_keys
delete from keys where id = :key0

-- name: delete_projects
delete from projects where id = :key0

-- ------------------------------------------------------------------------------------------------------------ runs

-- name: live_runs
select {columns runs r} from actions a cross join runs r
where a.name = 'a0' and a.phase in ({live}) and r.name = a.run
order by r.created, r.name

-- name: live_actions
select {columns actions c} from actions a cross join actions c
where a.name = 'a0' and a.phase in ({live}) and c.run = a.run
order by c.run, c.created, c.name

-- A run comes with its root action and the number of its actions, an action with the number of its children: what is
-- shown together is read together.

-- name: run
select {columns runs r}, {columns actions a}, (select count(*) from actions c where c.run = r.name)
from runs r cross join actions a
where r.name = :name and a.run = r.name and a.name = 'a0'

-- name: run_by_key
select {columns runs r}, {columns actions a}, (select count(*) from actions c where c.run = r.name)
from runs r cross join actions a
where r.name = coalesce(
    (select x.name from runs x
     where x.project = :project and x.domain = :domain and x.idempotency_key = :idempotency_key),
    (select k.run from run_keys k
     where k.project = :project and k.domain = :domain and k.idempotency_key = :idempotency_key))
  and a.run = r.name and a.name = 'a0'

-- name: runs
select {columns runs r}, {columns actions a}, (select count(*) from actions c where c.run = r.name)
from runs r cross join actions a
where r.project = :project and r.domain = :domain and a.run = r.name and a.name = 'a0' {filters}
order by r.created desc, r.name desc limit :limit

-- name: runs_in_phase
select {columns runs r}, {columns actions a}, (select count(*) from actions c where c.run = r.name)
from actions a cross join runs r
where a.name = 'a0' and a.phase = :phase and a.scope = :scope and r.name = a.run {filters}
order by a.created desc, a.run desc limit :limit

-- name: runs_labelled
select {columns runs r}, {columns actions a}, (select count(*) from actions c where c.run = r.name)
from run_labels l cross join runs r cross join actions a
where l.scope = :scope and l.label = :label0 and l.value = :value0
  and r.name = l.run and a.run = r.name and a.name = 'a0' {filters}
order by l.created desc, l.run desc limit :limit

-- Filters of the three above; {at} and {by} are the columns that the list is ordered by.

-- name: runs_of_task
and r.task = :task

-- name: runs_of_tasks_like
and lower(r.task) like :task_like escape '!'

-- name: runs_of_version
and r.version = :version

-- name: runs_of_phases
and a.phase in ({phases})

-- name: runs_with_label
and exists (select 1 from run_labels x where x.scope = :scope and x.label = :label{n} and x.value = :value{n}
            and x.created = r.created and x.run = r.name)

-- name: runs_after
and {at} >= :created_after

-- name: runs_before
and {at} < :created_before

-- name: runs_page
and ({at}, {by}) < (:page_at, :page_by)

-- name: run_place
select r.created, a.created from runs r join actions a on a.run = r.name and a.name = 'a0' where r.name = :name

-- --------------------------------------------------------------------------------------------------------- actions

-- name: action
select {columns actions} from actions where run = :run and name = :name

-- name: action_and_children
select {columns actions a}, (select count(*) from actions c where c.run = a.run and c.parent = a.name)
from actions a where a.run = :run and a.name = :name

-- name: actions
select {columns actions a}, (select count(*) from actions c where c.run = a.run and c.parent = a.name)
from actions a where a.run = :run {filters}
order by a.created, a.name limit :limit offset :offset

-- name: actions_of_parent
and a.parent = :parent

-- name: actions_of_phases
and a.phase in ({phases})

-- name: attempts
select {columns attempts} from attempts where run = :run and action = :action order by number

-- name: report
select {columns reports} from reports where run = :run and action = :action {filters} order by attempt desc limit 1

-- name: report_time
select attempt, at from reports where run = :run and action = :action order by attempt desc limit 1

-- name: report_of_attempt
and attempt = :attempt

-- name: cached
select {columns cache} from cache where key in ({keys})

-- name: cache
select {columns cache} from cache where project = :project and domain = :domain {filters}
order by created desc, key limit :limit

-- name: cache_of_task
and task = :task

-- ------------------------------------------------------------------------------------------------------- artifacts

-- name: artifacts
select {columns artifacts a} from artifacts a where a.project = :project and a.domain = :domain {filters}
order by a.created desc, a.name, a.version limit :limit offset :offset

-- name: artifacts_by_name
and a.name = :name

-- name: artifacts_by_version
and a.version = :version

-- name: artifacts_by_run
and a.run = :run

-- name: artifacts_by_action
and a.action = :action

-- name: artifacts_by_kind
and a.kind = :kind

-- name: artifacts_latest
-- Of each name, the version that was made last.
and not exists (select 1 from artifacts b where b.project = a.project and b.domain = a.domain and b.name = a.name
  and (b.created > a.created or (b.created = a.created and b.version < a.version)))

-- ---------------------------------------------------------------------------------------------------------- events

-- name: events_of_stream
select {columns events} from events where stream = :stream and seq > :after order by seq limit :limit

-- name: events_of_member
select {columns events} from events
where stream = :stream and member = :member and seq > :after order by seq limit :limit

-- ----------------------------------------------------------------------------------------------------------- tasks

-- name: task
select {columns tasks} from tasks
where project = :project and domain = :domain and name = :name and version = :version

-- name: task_versions
select {columns tasks} from tasks where project = :project and domain = :domain and name = :name
order by created desc, version desc limit :limit

-- name: current_task
select {columns tasks t} from current_tasks c cross join tasks t
where c.project = :project and c.domain = :domain and c.name = :name
  and t.project = c.project and t.domain = c.domain and t.name = c.name and t.version = c.version

-- name: current_tasks
select {columns current_tasks} from current_tasks where project = :project and domain = :domain order by name

-- name: deployed_tasks
select {columns tasks t} from current_tasks c cross join tasks t
where c.deployed = 1 and t.project = c.project and t.domain = c.domain and t.name = c.name and t.version = c.version

-- name: tasks_by_short_name
-- The current version of every task of that name comes first, then the others: no name is crowded out by the limit.
select {columns tasks t} from tasks t left join current_tasks c
  on c.project = t.project and c.domain = t.domain and c.name = t.name and c.version = t.version
where t.project = :project and t.domain = :domain and t.function = :function {filters}
order by case when c.name is null then 1 else 0 end, t.created desc, t.name, t.version desc limit :limit

-- name: tasks_of_version
and t.version = :version

-- name: tasks
select {columns tasks t} from current_tasks c cross join tasks t
where c.project = :project and c.domain = :domain
  and t.project = c.project and t.domain = c.domain and t.name = c.name and t.version = c.version {filters}
order by c.since desc, t.name limit :limit

-- name: tasks_named
and (t.name = :name or t.function = :name)

-- name: tasks_of_environment
and t.environment = :environment

-- ------------------------------------------------------------------------------------ apps, deployments, the others

-- name: apps
select {columns apps} from apps where 1 = 1 {filters} order by created desc, name

-- name: in_project
and project = :project

-- name: in_domain
and domain = :domain

-- name: app_version
select {columns app_versions} from app_versions
where project = :project and domain = :domain and name = :name and version = :version

-- name: app_versions
select {columns app_versions} from app_versions where project = :project and domain = :domain and name = :name
order by created desc, version desc limit :limit

-- name: deployment
select {columns deployments} from deployments where id = :id

-- name: deployments
select {columns deployments} from deployments where 1 = 1 {filters} order by created desc, id desc limit :limit

-- name: deployments_of_phase
and phase = :phase

-- name: secret
select {columns secrets} from secrets where project = :project and domain = :domain and name = :name

-- name: secrets
select {columns secrets} from secrets where project = :project and domain = :domain order by name

-- name: keys
select {columns keys} from keys order by created desc, id

-- name: images
select {columns images} from images order by used desc, id

-- name: projects
select {columns projects} from projects order by id

-- name: runs_by_phase
select phase, count(*) from actions where name = 'a0' group by phase

-- name: counts
select (select count(*) from tasks), (select count(*) from apps), {size}

-- ------------------------------------------------------------------------------------------------------- collection

-- name: runs_ended
-- The runs that ended before a time.
select {columns runs r} from actions a cross join runs r
where a.name = 'a0' and a.phase in ({terminal}) and a.ended < :before and r.name = a.run
order by a.ended, r.name limit :limit

-- name: run_names
select name from runs where name in ({names})

-- name: unused_tasks
-- The versions of tasks that are not current, are older than a time, and that no run has run which ended after it.
select {columns tasks t} from tasks t
where t.created < :before
  and not exists (
    select 1 from current_tasks c
    where c.project = t.project and c.domain = t.domain and c.name = t.name and c.version = t.version)
  and not exists (
    select 1 from triggers g
    where g.project = t.project and g.domain = t.domain and g.task = t.name and g.version = t.version)
  and (t.name, t.version) not in (
    select c.task, c.version from actions a cross join actions c
    where a.name = 'a0' and (a.ended is null or a.ended >= :before) and c.run = a.run)
order by t.project, t.domain, t.name, t.version limit :limit

-- The rows that may refer to blobs and files, a page of each table at a time: their key, then what may refer.

-- name: referring_runs
select name, request, labels from runs where name > :after0 order by name limit :limit

-- name: referring_actions
select run, name, inputs, inputs_blob, outputs, outputs_blob, spec, custom_context from actions
where (run, name) > (:after0, :after1) order by run, name limit :limit

-- name: referring_reports
select run, action, attempt, html from reports
where (run, action, attempt) > (:after0, :after1, :after2) order by run, action, attempt limit :limit

-- name: referring_cache
select key, outputs, outputs_blob from cache where key > :after0 order by key limit :limit

-- name: referring_artifacts
select project, domain, name, version, content, card from artifacts
where (project, domain, name, version) > (:after0, :after1, :after2, :after3)
order by project, domain, name, version limit :limit

-- name: referring_tasks
select project, domain, name, version, bundle, root, spec from tasks
where (project, domain, name, version) > (:after0, :after1, :after2, :after3)
order by project, domain, name, version limit :limit

-- name: referring_app_versions
select project, domain, name, version, bundle, root, spec from app_versions
where (project, domain, name, version) > (:after0, :after1, :after2, :after3)
order by project, domain, name, version limit :limit

-- name: referring_apps
select project, domain, name, env_vars, parameters from apps
where (project, domain, name) > (:after0, :after1, :after2) order by project, domain, name limit :limit

-- name: referring_deployments
select id, record from deployments where id > :after0 order by id limit :limit

-- name: referring_triggers
select project, domain, task, name, spec from triggers
where (project, domain, task, name) > (:after0, :after1, :after2, :after3)
order by project, domain, task, name limit :limit

-- name: referring_images
select id, record from images where id > :after0 order by id limit :limit

-- name: triggers
select {columns triggers} from triggers order by project, domain, task, name
