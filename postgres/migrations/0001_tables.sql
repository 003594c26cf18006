-- The tables of the event store.
--
-- The migrations can be run by hand, in order of their numbers and any number of times:
--   cat migrations/*.sql | psql "$DATABASE_URL" -v ON_ERROR_STOP=1 --single-transaction
--   psql "$DATABASE_URL" -c 'select create_log(8)'    -- 8 log partitions, for good
--
-- Every durable row contains its log partition, and so does every primary key (members, which
-- expire, belong to all partitions). Id columns are compared byte by byte: a locale's collation
-- changes with the C library and corrupts keys.

create table if not exists log (
    only_row boolean primary key default true check (only_row),
    log_id uuid not null,
    hash text not null check (hash = 'xxh3-64'),
    partition_count smallint not null check (partition_count > 0),
    -- Authenticates what other services return.
    secret bytea not null check (length(secret) = 32),
    -- The database that the log belongs to; any other is a copy. Null if unknown.
    home text,
    -- The number of overrides, by which processes notice them.
    overrides bigint not null default 0,
    created_at timestamptz not null default now()
);

-- One row per log partition. Every write to the partition locks the row, and none updates it: a
-- dead row version per commit could not be vacuumed while any transaction holds an old snapshot.
create table if not exists partitions (
    partition smallint primary key
);

-- Fixed-width columns come first, since they are found without walking over the others. No check
-- constraints: every append would parse them again.
create table if not exists events (
    version bigint not null,
    log_offset bigint not null,
    created_at timestamptz not null,
    event_id uuid not null,
    schema_version integer not null,
    partition smallint not null,
    stream_id text collate "C" not null,
    event_type text collate "C" not null,
    codec text collate "C" not null,
    event_data bytea not null,
    metadata jsonb,
    constraint events_pkey primary key (partition, stream_id, version),
    constraint events_log_offset_key unique (partition, log_offset)
);
-- No further B-tree on events: each costs about a third of the append rate.
create index if not exists events_created_at on events using brin (created_at);

-- An operator's replacement for the content of one event; the original stays in events.
create table if not exists event_overrides (
    partition smallint not null,
    stream_id text collate "C" not null,
    version bigint not null,
    event_type text collate "C" not null,
    schema_version integer not null,
    codec text collate "C" not null,
    event_data bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint event_overrides_pkey primary key (partition, stream_id, version)
);

create table if not exists snapshots (
    partition smallint not null,
    stream_id text collate "C" not null,
    fingerprint bigint not null,
    version bigint not null,
    codec text collate "C" not null,
    state_data bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint snapshots_pkey primary key (partition, stream_id, fingerprint)
);

-- The messages that a stream has handled. No index on created_at: entries are pruned page by page,
-- which costs appends nothing.
create table if not exists inbox (
    version bigint not null,
    log_offset bigint,
    created_at timestamptz not null,
    message_id uuid not null,
    digest uuid not null,
    partition smallint not null,
    stream_id text collate "C" not null,
    outcome bytea not null,
    constraint inbox_pkey primary key (partition, stream_id, message_id)
);

-- Effects to execute. `sequence` is drawn under the partition's lock, so it rises in commit order
-- within a partition; `index` is the position among the rows of one call.
create sequence if not exists outbox_sequence;
create table if not exists outbox (
    sequence bigint not null,
    index integer not null,
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    created_at timestamptz not null,
    id uuid not null,
    schema_version integer not null,
    partition smallint not null,
    kind text collate "C" not null,
    target text collate "C" not null,
    stream_id text collate "C" not null,
    recipient text collate "C" not null,
    message_type text collate "C" not null,
    codec text collate "C" not null,
    message_data bytea not null,
    metadata jsonb,
    last_error text,
    constraint outbox_pkey primary key (partition, kind, target, sequence, index)
);

-- `id` is the id of the message that the timer delivers.
create table if not exists timers (
    due timestamptz not null,
    armed_at timestamptz not null,
    id uuid not null,
    armed_by uuid not null,
    armed_index bigint not null,
    attempts integer not null default 0,
    schema_version integer not null,
    partition smallint not null,
    category text collate "C" not null,
    stream_id text collate "C" not null,
    timer_id text collate "C" not null,
    message_type text collate "C" not null,
    codec text collate "C" not null,
    message_data bytea not null,
    metadata jsonb,
    last_error text,
    constraint timers_pkey primary key (partition, stream_id, timer_id)
);
create index if not exists timers_due on timers (partition, category, due, stream_id, timer_id);

-- The holders of workers' partitions. A write of a worker requires its epoch.
create table if not exists leases (
    epoch bigint not null,
    holder uuid,
    expires_at timestamptz,
    ttl interval,
    partition smallint not null,
    worker text collate "C" not null,
    constraint leases_pkey primary key (worker, partition)
);

-- The processes that can do a worker's work and share its partitions.
create table if not exists members (
    holder uuid not null,
    expires_at timestamptz not null,
    ttl interval not null,
    worker text collate "C" not null,
    constraint members_pkey primary key (worker, holder)
);
create index if not exists members_holder on members (holder);

-- Who the holders of leases are, for operators.
create table if not exists processes (
    holder uuid primary key,
    since timestamptz not null default clock_timestamp(),
    pid bigint not null,
    program text not null,
    version text not null,
    host text not null
);

-- The pauses of the log ('log'), during which no process claims leases, and of parts of its work.
create table if not exists pauses (
    name text collate "C" primary key,
    since timestamptz not null default statement_timestamp(),
    paused_by text
);

-- The progress of a follower of the log, and the event at that position.
create table if not exists checkpoints (
    partition smallint not null,
    name text collate "C" not null,
    log_offset bigint not null,
    event_id uuid,
    epoch bigint not null default 0,
    status text collate "C" not null default 'running',
    status_detail text,
    updated_at timestamptz not null default clock_timestamp(),
    constraint checkpoints_pkey primary key (name, partition)
);

-- Messages that could not be handled, and those parked behind them (without an error), in order.
-- Rows of the outbox keep their positions. Timers have kind `timer`, a position drawn when they are
-- parked, the stream's category as target and the timer's id as recipient.
create table if not exists dead_letters (
    sequence bigint not null,
    index integer not null,
    attempts integer not null,
    parked_at timestamptz not null,
    created_at timestamptz not null,
    id uuid not null,
    armed_by uuid,
    armed_index bigint,
    schema_version integer not null,
    partition smallint not null,
    kind text collate "C" not null,
    target text collate "C" not null,
    stream_id text collate "C" not null,
    recipient text collate "C" not null,
    message_type text collate "C" not null,
    codec text collate "C" not null,
    message_data bytea not null,
    metadata jsonb,
    error text,
    -- The operator's decision, until it is carried out: redrive or discard.
    decision text collate "C",
    constraint dead_letters_pkey primary key (partition, kind, target, sequence, index)
);
create index if not exists dead_letters_id on dead_letters (id);
-- The rows of a pair, in order.
create index if not exists dead_letters_pair
    on dead_letters (partition, kind, target, stream_id, recipient, sequence, index);
create index if not exists dead_letters_decided
    on dead_letters (partition, kind, target) where decision is not null;

-- The number of the last migration that was run; each replaces it.
create or replace function event_store_schema_version() returns integer
language sql immutable as 'select 1';

-- The oldest code that may use the schema, as the number of the last migration that it knows. A
-- migration that older code cannot use replaces it; one that only adds does not, so that old
-- processes can be started again during a rollout, and after a rollback.
create or replace function event_store_oldest_code() returns integer
language sql immutable as 'select 1';

-- A secret for a log: 244 bits of the server's random numbers.
create or replace function new_log_secret() returns bytea
language sql volatile as $$
    select uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
$$;

-- The database: its cluster and its number there. Null where the server does not reveal the
-- cluster. A physical copy has the same value.
create or replace function log_home() returns text
language plpgsql stable as $$
begin
    return (select system_identifier from pg_control_system()) || '/'
        || (select oid from pg_database where datname = current_database());
exception when insufficient_privilege or undefined_function then
    return null;
end $$;

-- Decides which log a copied database contains: the original, which belongs to this database from
-- now on, or another log with an id and a secret of its own, which is paused.
create or replace function adopt_log(as_copy boolean) returns void
language plpgsql as $$
declare
    v_old uuid;
    v_new uuid := gen_random_uuid();
begin
    select log_id into v_old from log where home <> log_home() for update;
    if not found then
        return;
    end if;
    update log set home = log_home();
    if as_copy then
        update log set log_id = v_new, secret = new_log_secret();
        insert into pauses (name) values ('log') on conflict do nothing;
        -- The processes of the original do not run here; its positions in topics stay valid.
        delete from members;
        delete from processes;
        update leases set holder = null;
        update checkpoints set name = 'bus/' || v_new::text || substr(name, 41)
        where name like 'bus/' || v_old::text || '-%';
    end if;
end $$;

-- Creates the log with the given number of partitions. Later calls change nothing.
create or replace function create_log(partition_count integer) returns void
language plpgsql as $$
begin
    insert into log (log_id, hash, partition_count, secret, home)
    values (gen_random_uuid(), 'xxh3-64', create_log.partition_count, new_log_secret(), log_home())
    on conflict do nothing;
    if found then
        insert into partitions (partition)
        select i from generate_series(0, create_log.partition_count - 1) i;
    end if;
end $$;
