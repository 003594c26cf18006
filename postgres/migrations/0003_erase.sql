-- Erasing, closing and overriding. Each is one call in autocommit, like an append.
--
-- Functions other than appends give up after waiting for a lock for five seconds: the call holds
-- one of few connections, and its caller retries.

-- Locks a partition until the transaction ends. The caller's later statements read what was
-- committed before the lock, which needs READ COMMITTED.
create or replace function lock_partition(p_partition smallint) returns void
language plpgsql volatile as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'appends need READ COMMITTED, not %',
            upper(current_setting('transaction_isolation'))
            using errcode = 'invalid_transaction_state';
    end if;
    perform from partitions where partition = p_partition for update;
    if not found then
        raise exception 'there is no log partition %', p_partition
            using errcode = 'invalid_parameter_value';
    end if;
end $$;

-- Overwrites the effects of a stream in the outboxes of these partitions. The rows are locked in
-- the order of the primary key, in which workers lock them too.
create or replace function erase_queued(p_stream text, p_partitions smallint[]) returns void
language plpgsql volatile as $$
declare
    rows tid[] := array(
        select o.row from unnest(p_partitions) p (partition)
        cross join lateral (
            select o.ctid as row from outbox o
            where o.partition = p.partition and o.stream_id = p_stream
            and o.message_type <> '$erased'
            order by o.kind, o.target, o.sequence, o.index
            for update
        ) o
    );
begin
    update outbox set message_type = '$erased', codec = '', message_data = '', metadata = null,
        last_error = null
    where ctid = any (rows);
end $$;

-- An error becomes empty, not null: a dead letter without an error is parked behind another.
create or replace function erase_parked(p_stream text, p_partitions smallint[]) returns void
language plpgsql volatile as $$
declare
    rows tid[] := array(
        select d.row from unnest(p_partitions) p (partition)
        cross join lateral (
            select d.ctid as row from dead_letters d
            where d.partition = p.partition and d.stream_id = p_stream
            and d.message_type <> '$erased'
            order by d.kind, d.target, d.stream_id, d.recipient, d.sequence, d.index
            for update
        ) d
    );
begin
    update dead_letters set message_type = '$erased', codec = '', message_data = '',
        metadata = null, error = case when error is not null then '' end
    where ctid = any (rows);
end $$;

create or replace function erase_effects(p_stream text, p_partitions smallint[]) returns void
language plpgsql volatile as $$
begin
    perform erase_queued(p_stream, p_partitions);
    perform erase_parked(p_stream, p_partitions);
    -- Rows that were re-driven in between.
    perform erase_queued(p_stream, p_partitions);
end $$;

-- Overwrites the effects of a stream in other partitions than its own: those of the events which
-- caused them. Rows may be added there meanwhile, since no partition is locked. So this is a call
-- of its own before erase_stream, which then holds its lock for a shorter time.
create or replace function erase_elsewhere(p_partition smallint, p_stream text) returns void
language plpgsql volatile
set lock_timeout = '5s'
as $$
begin
    perform erase_effects(
        p_stream, array(select p.partition from partitions p where p.partition <> p_partition)
    );
end $$;

-- Overwrites the content of all rows of a stream in its partition. Versions, positions, ids and
-- inbox entries stay, and so does the event that closed it. The old row versions leave the disk
-- with the next vacuum. If any event was overwritten and the stream is open, appends an event that
-- announces it. Returns the number of overwritten events, and the offset of that event.
create or replace function erase_stream(p_partition smallint, p_stream text) returns bigint[]
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    erased bigint;
    last record;
    new_offset bigint;
begin
    perform lock_partition(p_partition);
    update events set event_type = '$erased', codec = '', event_data = '', metadata = null
    where partition = p_partition and stream_id = p_stream
    and event_type not in ('$erased', '$closed');
    get diagnostics erased = row_count;
    delete from event_overrides where partition = p_partition and stream_id = p_stream;
    delete from snapshots where partition = p_partition and stream_id = p_stream;
    update inbox set outcome = ''
    where partition = p_partition and stream_id = p_stream and outcome <> '';
    update timers set message_type = '$erased', codec = '', message_data = '', metadata = null,
        last_error = null
    where partition = p_partition and stream_id = p_stream;
    perform erase_effects(p_stream, array[p_partition]);

    select e.version, e.event_type into last from events e
    where e.partition = p_partition and e.stream_id = p_stream
    order by e.version desc limit 1;
    if erased > 0 and last.event_type <> '$closed' then
        insert into events (
            version, log_offset, created_at, event_id, schema_version, partition,
            stream_id, event_type, codec, event_data, metadata
        )
        select last.version + 1,
            (
                select e.log_offset from events e where e.partition = p_partition
                order by e.log_offset desc limit 1
            ) + 1,
            clock_timestamp(), gen_random_uuid(), 1, p_partition, p_stream, '$erased', '', '', null
        returning log_offset into new_offset;
    end if;
    return array[erased, new_offset];
end $$;

-- Saves a snapshot unless a newer one exists, the stream does not have p_event_id at its version
-- (as the server before a failover may have had), or the last event in it is erased. That event is
-- locked instead of the partition: an erasure waits for the save and deletes the snapshot, a save
-- waits for the erasure and sees it, and appends wait for neither.
create or replace function save_snapshot(
    p_partition smallint, p_stream text, p_fingerprint bigint, p_version bigint, p_codec text,
    p_data bytea, p_event_id uuid
) returns void
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    last_type text;
begin
    if not exists (
        select from events e
        where e.partition = p_partition and e.stream_id = p_stream and e.version = p_version
        and e.event_id = p_event_id
    ) then
        return;
    end if;
    select e.event_type into last_type from events e
    where e.partition = p_partition and e.stream_id = p_stream and e.version <= p_version
    and e.event_type <> '$closed'
    order by e.version desc limit 1
    for share;
    if last_type = '$erased' then
        return;
    end if;
    insert into snapshots as s (partition, stream_id, fingerprint, version, codec, state_data)
    values (p_partition, p_stream, p_fingerprint, p_version, p_codec, p_data)
    on conflict on constraint snapshots_pkey do update set
        version = excluded.version, codec = excluded.codec, state_data = excluded.state_data,
        created_at = excluded.created_at
    where s.version < excluded.version;
end $$;

-- Closes a stream that is at p_expected; one that is closed stays as it is. Returns whether the
-- stream is closed (1) or not (0), its version, and the offset of its last event.
create or replace function close_stream(
    p_partition smallint, p_stream text, p_expected bigint, p_event_id uuid
) returns bigint[]
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    last record;
    new_offset bigint;
begin
    perform lock_partition(p_partition);
    select e.version, e.log_offset, e.event_type into last from events e
    where e.partition = p_partition and e.stream_id = p_stream
    order by e.version desc limit 1;
    if last.event_type = '$closed' then
        return array[1, last.version, last.log_offset];
    end if;
    if coalesce(last.version, 0) <> p_expected then
        return array[0, coalesce(last.version, 0), last.log_offset];
    end if;
    insert into events (
        version, log_offset, created_at, event_id, schema_version, partition,
        stream_id, event_type, codec, event_data, metadata
    )
    select p_expected + 1,
        coalesce((
            select e.log_offset from events e where e.partition = p_partition
            order by e.log_offset desc limit 1
        ), 0) + 1,
        clock_timestamp(), p_event_id, 1, p_partition, p_stream, '$closed', '', '', null
    returning log_offset into new_offset;
    delete from timers where partition = p_partition and stream_id = p_stream;
    delete from dead_letters where partition = p_partition and kind = 'timer'
    and target = split_part(p_stream, '-', 1) and stream_id = p_stream;
    return array[1, p_expected + 1, new_offset];
end $$;

-- Stores a replacement for the content of one event, and deletes the snapshots that include the
-- original. Returns false if the event does not exist or has no content.
create or replace function override_event(
    p_partition smallint, p_stream text, p_version bigint,
    p_type text, p_schema integer, p_codec text, p_data bytea
) returns boolean
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
begin
    perform lock_partition(p_partition);
    insert into event_overrides as o (
        partition, stream_id, version, event_type, schema_version, codec, event_data
    )
    select p_partition, p_stream, p_version, p_type, p_schema, p_codec, p_data from events e
    where e.partition = p_partition and e.stream_id = p_stream and e.version = p_version
    and e.event_type not in ('$erased', '$closed')
    on conflict on constraint event_overrides_pkey do update set
        event_type = excluded.event_type, schema_version = excluded.schema_version,
        codec = excluded.codec, event_data = excluded.event_data, created_at = excluded.created_at;
    if not found then
        return false;
    end if;
    delete from snapshots
    where partition = p_partition and stream_id = p_stream and version >= p_version;
    update log set overrides = overrides + 1;
    return true;
end $$;

create or replace function event_store_schema_version() returns integer
language sql immutable as 'select 3';
