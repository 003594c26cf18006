-- The checkpoints of the projections of this database.
create table projection_checkpoints (
    name text not null,
    partition integer not null,
    -- The last offset that is projected, and the id of the event there.
    log_offset integer not null,
    event_id blob,
    -- The epoch of the lease under which it was written.
    epoch integer not null,
    -- Microseconds since 1970.
    updated_at integer not null,
    primary key (name, partition)
) strict, without rowid;

-- The states of the projections.
create table projection_states (
    name text not null primary key,
    -- The log that is projected.
    log_id blob not null,
    state text not null check (state in ('running', 'waiting', 'rebuilding', 'paused', 'failed')),
    reason text not null default '',
    -- The number of rebuilds, and whether one is running.
    rebuilds integer not null default 0,
    rebuilding integer not null default 0
) strict, without rowid;

-- Streams with an event that could not be projected; their later events are in the log's outbox.
create table projection_blocked (
    name text not null,
    stream_id text not null,
    -- The last version that is projected.
    version integer not null,
    blockage_id blob not null,
    primary key (name, stream_id)
) strict, without rowid;

create table projection_schema (version integer not null) strict;
insert into projection_schema values (1);
