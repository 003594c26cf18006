-- The checkpoints of the projections of this database.
create table projection_checkpoints (
    name text collate "C" not null,
    partition integer not null,
    -- The last offset that is projected, and the id of the event there.
    log_offset bigint not null,
    event_id uuid,
    -- The epoch of the lease under which it was written.
    epoch bigint not null,
    updated_at timestamptz not null default now(),
    primary key (name, partition)
);

-- The states of the projections. The row is also a projection's lock.
create table projection_states (
    name text collate "C" primary key,
    -- The log that is projected.
    log_id uuid not null,
    state text not null default 'running'
        check (state in ('running', 'waiting', 'rebuilding', 'paused', 'failed')),
    reason text not null default '',
    -- The number of rebuilds, and whether one is running.
    rebuilds bigint not null default 0,
    rebuilding boolean not null default false
);

-- Streams with an event that could not be projected; their later events are in the log's outbox.
create table projection_blocked (
    name text collate "C" not null,
    stream_id text collate "C" not null,
    -- The last version that is projected.
    version bigint not null,
    blockage_id uuid not null,
    primary key (name, stream_id)
);

create table projection_schema (version integer not null);
insert into projection_schema values (1);
