-- Leases, checkpoints, the outbox, timers and dead letters. Each function is one call in
-- autocommit, like an append, and locks rows in one order: the partition's, leases (by worker),
-- then the rows that it changes. A worker's write requires the epoch of its lease, which stays
-- locked until the commit.
--
-- `partition + 0` has no index, so that a plan that is made for empty tables takes the right one.

-- Returns, for each worker, whether its lease has this epoch; locks the leases against a change of
-- holder.
create or replace function hold_leases(p_partition smallint, w_worker text[], w_epoch bigint[])
returns boolean[]
language plpgsql volatile as $$
#variable_conflict use_column
declare
    held boolean[];
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'appends need READ COMMITTED, not %',
            upper(current_setting('transaction_isolation'))
            using errcode = 'invalid_transaction_state';
    end if;
    with lease as materialized (
        select l.worker, l.epoch from leases l
        where l.worker = any (w_worker) and l.partition = p_partition
        order by l.worker
        for share
    )
    select array_agg(
        exists (select from lease l where l.worker = w.worker and l.epoch = w.epoch)
        order by w.nth
    ) into held
    from unnest(w_worker, w_epoch) with ordinality w(worker, epoch, nth);
    return coalesce(held, '{}');
end $$;

-- Announces a holder's workers (m_), and changes leases (c_) from the epochs at which it read them:
-- c_action 0 claims, 1 renews, 2 releases, 3 seizes. A claimed lease's epoch is at least
-- p_min_epoch. Returns which changes were made.
create or replace function change_leases(
    p_holder uuid, p_ttl bigint, p_min_epoch bigint, m_worker text[],
    c_worker text[], c_partition smallint[], c_epoch bigint[], c_action integer[]
) returns boolean[]
language plpgsql volatile
set lock_timeout = '3s'
as $$
#variable_conflict use_column
declare
    time_to_live interval := p_ttl * interval '1 microsecond';
    made boolean[] := array_fill(false, array[cardinality(c_worker)]);
    c record;
begin
    -- An expiry further ahead than its time to live dates from before the clock was set back. The
    -- second is for rounding; two processes that do this at the same time must not wait for each
    -- other.
    update leases l set expires_at = clock_timestamp() + l.ttl
    where l.ctid = any (array(
        select l.ctid from leases l
        where l.worker = any (m_worker)
        and l.expires_at > clock_timestamp() + l.ttl + interval '1 second'
        for update skip locked
    ));
    update members m set expires_at = clock_timestamp() + m.ttl
    where m.ctid = any (array(
        select m.ctid from members m
        where m.worker = any (m_worker)
        and m.expires_at > clock_timestamp() + m.ttl + interval '1 second'
        for update skip locked
    ));
    delete from members m where m.holder = p_holder and m.worker <> all (m_worker);
    insert into members as m (worker, holder, expires_at, ttl)
    select w.worker, p_holder, clock_timestamp() + time_to_live, time_to_live
    from (select distinct w.worker from unnest(m_worker) w(worker) order by w.worker) w
    on conflict on constraint members_pkey do update set
        expires_at = excluded.expires_at, ttl = excluded.ttl;
    -- Two processes that delete at the same time must not wait for each other.
    delete from members where ctid = any (array(
        select m.ctid from members m
        where m.worker = any (m_worker) and m.expires_at <= clock_timestamp()
        for update skip locked
    ));

    for c in
        select * from unnest(c_worker, c_partition, c_epoch, c_action)
            with ordinality c(worker, partition, epoch, action, nth)
        order by c.worker, c.partition, c.nth
    loop
        if c.action in (0, 3) and c.epoch = 0 then
            insert into leases (worker, partition, epoch, holder, expires_at, ttl)
            values (
                c.worker, c.partition, greatest(1, p_min_epoch), p_holder,
                clock_timestamp() + time_to_live, time_to_live
            )
            on conflict on constraint leases_pkey do nothing;
        elsif c.action in (0, 3) then
            update leases l set
                epoch = greatest(l.epoch + 1, p_min_epoch), holder = p_holder,
                expires_at = clock_timestamp() + time_to_live, ttl = time_to_live
            where l.worker = c.worker and l.partition = c.partition and l.epoch = c.epoch
            and (c.action = 3 or l.holder is null or l.expires_at <= clock_timestamp());
        elsif c.action = 1 then
            update leases l set
                expires_at = clock_timestamp() + time_to_live, ttl = time_to_live
            where l.worker = c.worker and l.partition = c.partition and l.epoch = c.epoch
            and l.holder = p_holder;
        else
            update leases l set holder = null, expires_at = null
            where l.worker = c.worker and l.partition = c.partition and l.epoch = c.epoch
            and l.holder = p_holder;
        end if;
        made[c.nth] := found;
    end loop;
    return made;
end $$;

-- Adds rows to the ends of their queues; only those whose q_of is among p_of, unless that is null.
-- The caller holds the partition's lock.
create or replace function queue_rows(
    p_partition smallint, p_of integer[],
    q_of integer[], q_stream text[], q_id uuid[], q_kind text[], q_target text[],
    q_recipient text[], q_type text[], q_schema integer[], q_codec text[], q_data bytea[],
    q_metadata text[]
) returns void
language plpgsql volatile as $$
#variable_conflict use_column
declare
    drawn bigint := nextval('outbox_sequence');
begin
    insert into outbox (
        sequence, index, created_at, id, schema_version, partition, kind, target,
        stream_id, recipient, message_type, codec, message_data, metadata
    )
    select drawn, q.nth, clock_timestamp(), q.id, q.schema, p_partition, q.kind, q.target,
        q.stream, q.recipient, q.type, q.codec, q.data, q.metadata::jsonb
    from unnest(
        q_of, q_stream, q_id, q_kind, q_target, q_recipient, q_type, q_schema, q_codec, q_data,
        q_metadata
    ) with ordinality q(
        owner, stream, id, kind, target, recipient, type, schema, codec, data,
        metadata, nth
    )
    where p_of is null or q.owner = any (p_of);
end $$;

-- Queues rows and moves the checkpoint of follower p_name, unless that is null, if it is not there
-- yet. False, and nothing is done, if the lease has another epoch.
create or replace function enqueue_rows(
    p_partition smallint, p_name text, p_worker text, p_epoch bigint, p_offset bigint,
    p_event_id uuid,
    q_of integer[], q_stream text[], q_id uuid[], q_kind text[], q_target text[],
    q_recipient text[], q_type text[], q_schema integer[], q_codec text[], q_data bytea[],
    q_metadata text[]
) returns boolean
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
begin
    if q_id <> '{}' then
        perform lock_partition(p_partition);
    end if;
    if p_name is not null then
        if not true = any (hold_leases(p_partition, array[p_worker], array[p_epoch])) then
            return false;
        end if;
        insert into checkpoints as c (partition, name, log_offset, event_id, epoch)
        values (p_partition, p_name, p_offset, p_event_id, p_epoch)
        on conflict on constraint checkpoints_pkey do update set
            log_offset = excluded.log_offset, event_id = excluded.event_id,
            epoch = excluded.epoch, updated_at = excluded.updated_at
        where c.log_offset < excluded.log_offset;
        if not found then
            return true;
        end if;
    end if;
    if q_id <> '{}' then
        perform queue_rows(
            p_partition, null, q_of, q_stream, q_id, q_kind, q_target, q_recipient, q_type,
            q_schema, q_codec, q_data, q_metadata
        );
    end if;
    return true;
end $$;

-- Sets the checkpoint of a follower to before the first event, and ends its lease.
create or replace function rewind_follower(
    p_partition smallint, p_worker text, p_offset bigint, p_event uuid
) returns void
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
begin
    update leases l set epoch = l.epoch + 1, holder = null, expires_at = null
    where l.partition = p_partition and l.worker = p_worker;
    insert into checkpoints (partition, name, log_offset, event_id)
    values (p_partition, p_worker, p_offset, p_event)
    on conflict on constraint checkpoints_pkey do update set
        log_offset = excluded.log_offset, event_id = excluded.event_id,
        updated_at = excluded.updated_at;
end $$;

-- Puts rows among the dead letters without an attempt, at the ends of their queues.
create or replace function park_rows(
    p_partition smallint, p_error text,
    q_of integer[], q_stream text[], q_id uuid[], q_kind text[], q_target text[],
    q_recipient text[], q_type text[], q_schema integer[], q_codec text[], q_data bytea[],
    q_metadata text[]
) returns void
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    drawn bigint;
begin
    perform lock_partition(p_partition);
    drawn := nextval('outbox_sequence');
    insert into dead_letters (
        sequence, index, attempts, parked_at, created_at, id, schema_version, partition, kind,
        target, stream_id, recipient, message_type, codec, message_data, metadata, error
    )
    select drawn, q.nth, 0, clock_timestamp(), clock_timestamp(), q.id, q.schema, p_partition,
        q.kind, q.target, q.stream, q.recipient, q.type, q.codec, q.data, q.metadata::jsonb,
        p_error
    from unnest(
        q_stream, q_id, q_kind, q_target, q_recipient, q_type, q_schema, q_codec, q_data, q_metadata
    ) with ordinality q(
        stream, id, kind, target, recipient, type, schema, codec, data, metadata, nth
    )
    -- A row that was added twice is one message, and one dead letter; a row that is in the outbox
    -- stays there.
    where coalesce((
        select false from dead_letters d
        where d.id = q.id and d.partition + 0 = p_partition limit 1
    ), true)
    and coalesce((
        select false from outbox o
        where o.partition = p_partition and o.kind = q.kind and o.target = q.target
        and o.id = q.id limit 1
    ), true)
    and q.nth = (select min(s.nth) from unnest(q_id) with ordinality s(id, nth) where s.id = q.id);
end $$;

-- Settles rows of the outbox: s_change 0 done, 1 failed (or, without an error, begun), 2 parked; q_
-- holds the rows that are added for those that are done, q_of being the settlement's index from 1.
-- Returns which leases had their epochs.
--
-- The rows are locked in the order of the primary key, in which an erasure locks them too.
create or replace function settle_rows(
    p_partition smallint, s_worker text[], s_epoch bigint[], s_kind text[], s_target text[],
    s_sequence bigint[], s_index integer[], s_change integer[], s_attempts integer[],
    -- Microseconds.
    s_wait bigint[], s_error text[],
    q_of integer[] = '{}', q_stream text[] = '{}', q_id uuid[] = '{}', q_kind text[] = '{}',
    q_target text[] = '{}', q_recipient text[] = '{}', q_type text[] = '{}',
    q_schema integer[] = '{}', q_codec text[] = '{}', q_data bytea[] = '{}',
    q_metadata text[] = '{}'
) returns boolean[]
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    held boolean[];
    there integer[];    -- settlements whose rows are there
    rows tid[];         -- those rows
    done integer[];
    n integer;
begin
    if q_id <> '{}' then
        perform lock_partition(p_partition);
    end if;
    held := hold_leases(p_partition, s_worker, s_epoch);
    select array_agg(s.nth::integer), array_agg(o.row) into there, rows
    from (
        select s.* from unnest(s_kind, s_target, s_sequence, s_index)
            with ordinality s(kind, target, sequence, index, nth)
        where held[s.nth]
        order by s.kind collate "C", s.target collate "C", s.sequence, s.index
    ) s
    cross join lateral (
        select o.ctid as row from outbox o
        where o.partition = p_partition and o.kind = s.kind and o.target = s.target
        and o.sequence = s.sequence and o.index = s.index
        limit 1
        for update
    ) o;

    -- A separate statement sees the writes that the locks waited for.
    delete from outbox where ctid = any (array(
        select t.row from unnest(there, rows) t(nth, row) where s_change[t.nth] = 0
    ));
    if q_id <> '{}' then
        done := array(select t.nth from unnest(there) t(nth) where s_change[t.nth] = 0);
        if q_of && done then
            perform queue_rows(
                p_partition, done, q_of, q_stream, q_id, q_kind, q_target, q_recipient, q_type,
                q_schema, q_codec, q_data, q_metadata
            );
        end if;
    end if;

    for i in 1 .. coalesce(cardinality(there), 0) loop
        n := there[i];
        if s_change[n] = 1 then
            update outbox set attempts = s_attempts[n], last_error = s_error[n],
                next_attempt_at = clock_timestamp() + s_wait[n] * interval '1 microsecond'
            where ctid = rows[i];
        elsif s_change[n] = 2 then
            with parked as (delete from outbox where ctid = rows[i] returning *)
            insert into dead_letters (
                sequence, index, attempts, parked_at, created_at, id, schema_version, partition,
                kind, target, stream_id, recipient, message_type, codec, message_data, metadata,
                error
            )
            select p.sequence, p.index, s_attempts[n], clock_timestamp(), p.created_at, p.id,
                p.schema_version, p.partition, p.kind, p.target, p.stream_id, p.recipient,
                p.message_type, p.codec, p.message_data, p.metadata, s_error[n]
            from parked p
            -- A row that was added twice is one message, and one dead letter.
            where coalesce((
                select false from dead_letters d
                where d.id = p.id and d.partition + 0 = p.partition limit 1
            ), true);
        end if;
    end loop;
    return held;
end $$;

-- Settles timers, each only while it is armed as given. Appends check fired timers under the
-- partition's lock, so it is taken here too.
create or replace function settle_timers(
    p_partition smallint, s_worker text[], s_epoch bigint[], s_stream text[], s_timer text[],
    s_armed_by uuid[], s_armed_index bigint[], s_change integer[], s_attempts integer[],
    -- Microseconds.
    s_wait bigint[], s_error text[],
    q_of integer[] = '{}', q_stream text[] = '{}', q_id uuid[] = '{}', q_kind text[] = '{}',
    q_target text[] = '{}', q_recipient text[] = '{}', q_type text[] = '{}',
    q_schema integer[] = '{}', q_codec text[] = '{}', q_data bytea[] = '{}',
    q_metadata text[] = '{}'
) returns void
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    held boolean[];
    done integer[] := '{}';
begin
    perform lock_partition(p_partition);
    held := hold_leases(p_partition, s_worker, s_epoch);
    for n in 1 .. cardinality(held) loop
        continue when not held[n];
        if s_change[n] = 1 then
            update timers set attempts = s_attempts[n], last_error = s_error[n],
                due = clock_timestamp() + s_wait[n] * interval '1 microsecond'
            where partition = p_partition and stream_id = s_stream[n] and timer_id = s_timer[n]
            and armed_by = s_armed_by[n] and armed_index = s_armed_index[n];
            continue;
        end if;
        with gone as (
            delete from timers
            where partition = p_partition and stream_id = s_stream[n] and timer_id = s_timer[n]
            and armed_by = s_armed_by[n] and armed_index = s_armed_index[n]
            returning *
        ), parked as (
            insert into dead_letters (
                sequence, index, attempts, parked_at, created_at, id, armed_by, armed_index,
                schema_version, partition, kind, target, stream_id, recipient, message_type,
                codec, message_data, metadata, error
            )
            select nextval('outbox_sequence'), 0, s_attempts[n], clock_timestamp(), g.armed_at, g.id, g.armed_by,
                g.armed_index, g.schema_version, g.partition, 'timer', g.category, g.stream_id,
                g.timer_id, g.message_type, g.codec, g.message_data, g.metadata, s_error[n]
            from gone g
            where s_change[n] = 2 and coalesce((
                select false from dead_letters d
                where d.id = g.id and d.partition + 0 = g.partition limit 1
            ), true)
        )
        select done || n into done from gone where s_change[n] = 0;
    end loop;
    if q_of && done then
        perform queue_rows(
            p_partition, done, q_of, q_stream, q_id, q_kind, q_target, q_recipient, q_type,
            q_schema, q_codec, q_data, q_metadata
        );
    end if;
end $$;

-- Stores an operator's decision about a dead letter that is the first of its pair. Returns whether
-- it was stored.
create or replace function decide_dead_letter(
    p_partition smallint, p_id uuid, p_decision text
) returns boolean
language plpgsql volatile
set lock_timeout = '5s'
as $$
begin
    perform lock_partition(p_partition);
    -- A separate statement sees the writes that the lock waited for.
    update dead_letters d set decision = p_decision
    where d.id = p_id and d.partition + 0 = p_partition and coalesce((
        select false from dead_letters b where b.partition = d.partition and b.kind = d.kind
        and b.target = d.target and b.stream_id = d.stream_id and b.recipient = d.recipient
        and (b.sequence, b.index) < (d.sequence, d.index) limit 1
    ), true);
    return found;
end $$;

-- Carries out the decision about a dead letter; q_ holds the replies for one that is discarded. One
-- that is re-driven returns to the queue with those parked behind it. Returns false, and changes
-- nothing, if the lease has another epoch or the decision has changed.
create or replace function resolve_dead_letter(
    p_partition smallint, p_worker text, p_epoch bigint, p_id uuid, p_decision text,
    q_of integer[], q_stream text[], q_id uuid[], q_kind text[], q_target text[],
    q_recipient text[], q_type text[], q_schema integer[], q_codec text[], q_data bytea[],
    q_metadata text[]
) returns boolean
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    letter dead_letters;
    next dead_letters;
begin
    perform lock_partition(p_partition);
    if not true = any (hold_leases(p_partition, array[p_worker], array[p_epoch])) then
        return false;
    end if;
    delete from dead_letters d
    where d.id = p_id and d.partition + 0 = p_partition and d.decision = p_decision
    returning * into letter;
    if not found then
        return false;
    end if;
    if p_decision = 'discard' then
        if q_id <> '{}' then
            perform queue_rows(
                p_partition, null, q_of, q_stream, q_id, q_kind, q_target, q_recipient, q_type,
                q_schema, q_codec, q_data, q_metadata
            );
        end if;
        return true;
    end if;

    -- Up to the next that has an error of its own, which needs its own decision.
    select d.* into next from dead_letters d
    where d.partition = p_partition and d.kind = letter.kind and d.target = letter.target
    and d.stream_id = letter.stream_id and d.recipient = letter.recipient
    and (d.sequence, d.index) > (letter.sequence, letter.index)
    and d.kind <> 'timer' and d.error is not null
    order by d.sequence, d.index limit 1;

    with behind as (
        delete from dead_letters d
        where d.partition = p_partition and d.kind = letter.kind and d.target = letter.target
        and d.stream_id = letter.stream_id and d.recipient = letter.recipient
        and (d.sequence, d.index) > (letter.sequence, letter.index)
        and (next.sequence is null or (d.sequence, d.index) < (next.sequence, next.index))
        returning *
    ), pair as (
        select (letter).* union all select * from behind
    ), armed as (
        insert into timers (
            due, armed_at, id, armed_by, armed_index, schema_version, partition, category,
            stream_id, timer_id, message_type, codec, message_data, metadata
        )
        -- Of several armings of a timer the last counts.
        select clock_timestamp(), p.created_at, p.id, p.armed_by, p.armed_index, p.schema_version,
            p.partition, p.target, p.stream_id, p.recipient, p.message_type, p.codec,
            p.message_data, p.metadata
        from pair p where p.kind = 'timer'
        order by p.sequence desc limit 1
        on conflict on constraint timers_pkey do nothing
    )
    insert into outbox (
        sequence, index, created_at, id, schema_version, partition, kind, target,
        stream_id, recipient, message_type, codec, message_data, metadata
    )
    select p.sequence, p.index, p.created_at, p.id, p.schema_version, p.partition, p.kind,
        p.target, p.stream_id, p.recipient, p.message_type, p.codec, p.message_data, p.metadata
    from pair p where p.kind <> 'timer';
    return true;
end $$;

-- Deletes up to p_limit inbox entries of a partition that are older than p_age (microseconds) and
-- whose messages are in no queue. It reads a bounded number of pages, from p_page on and past the
-- end from the beginning. Returns the number of deleted entries, and the page to continue from.
create or replace function prune_inbox(
    p_partition smallint, p_age bigint, p_limit bigint, p_page bigint,
    out pruned bigint, out page bigint
)
language plpgsql volatile
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    step constant bigint := 64;
    max_pages constant bigint := 4096;
    pages bigint := pg_relation_size('inbox') / current_setting('block_size')::bigint;
    cutoff timestamptz := clock_timestamp() - p_age * interval '1 microsecond';
    seen bigint := 0;
    queued uuid[];      -- null until it is needed
    doomed tid[] := '{}';
begin
    page := p_page;
    while seen < least(pages, max_pages) and cardinality(doomed) < p_limit loop
        if page >= pages then
            page := 0;
        end if;
        if exists (
            select from inbox i
            where i.ctid >= format('(%s,0)', page)::tid
            and i.ctid < format('(%s,0)', page + step)::tid
            and i.partition + 0 = p_partition and i.created_at < cutoff
        ) then
            -- A row may be younger than the entry of its message: messages are received again when
            -- offsets of a topic are set back. So all rows count; they are read once, by a call
            -- that finds old entries.
            if queued is null then
                queued := array(
                    select o.id from partitions p cross join lateral (
                        select o.id from outbox o where o.partition = p.partition offset 0
                    ) o
                );
            end if;
            -- The pages are read in order. The queued ids are hashed, as it is not by `<> all (queued)`.
            doomed := doomed || array(
                select i.ctid from inbox i
                where i.ctid >= format('(%s,0)', page)::tid
                and i.ctid < format('(%s,0)', page + step)::tid
                and i.partition + 0 = p_partition and i.created_at < cutoff
                and i.message_id not in (select unnest(queued))
                and coalesce((
                    select false from dead_letters d where d.id = i.message_id limit 1
                ), true)
                and coalesce((
                    select false from timers t
                    where t.partition = p_partition and t.stream_id = i.stream_id
                    and t.id = i.message_id
                    limit 1
                ), true)
                limit p_limit - cardinality(doomed)
            );
        end if;
        seen := seen + step;
        if cardinality(doomed) < p_limit then
            page := page + step;
        end if;
    end loop;

    pruned := 0;
    if doomed <> '{}' then
        perform lock_partition(p_partition);
        -- The row at this place may be another by now.
        delete from inbox i
        where i.ctid = any (doomed) and i.partition = p_partition and i.created_at < cutoff;
        get diagnostics pruned = row_count;
    end if;
end $$;

create or replace function event_store_schema_version() returns integer
language sql immutable as 'select 4';

create or replace function event_store_oldest_code() returns integer
language sql immutable as 'select 4';
