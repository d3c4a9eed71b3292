//! The partition's state machine: applies committed entries, seals batches for the B-tree, keeps writes in flight.

use bytes::Bytes;
use model::TableDefinition;
use model::table::TableStatus;
use paxos::{Entry, Index, Payload};
use protocol::item::{ItemFault, ItemReply};
use protocol::scrub::Marker;

use crate::command::{self, Command, CommandKind, WriteCommand};
use crate::flight::Flights;
use crate::overlay::Overlay;
use crate::splitting::Deciding;
use crate::transactions::LatestWrites;
use crate::{BTree, Batch, Marked, PartitionError, PartitionState};

/// Bounds of one partition; what is beyond is answered with `Overloaded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of applied but unflushed writes above which a leader takes no more writes.
    pub overlay_bytes_max: usize,
    /// Writes in flight.
    pub in_flight_max: usize,
    /// Bytes of the commands in flight.
    pub in_flight_bytes_max: usize,
    /// Bytes of an item collection of a table with local secondary indexes, above which it must not grow.
    pub collection_bytes_max: u64,
    /// Bytes of change records that the indexes have not got, above which a leader takes no more writes.
    pub change_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            overlay_bytes_max: 64 << 20,
            in_flight_max: 8_192,
            in_flight_bytes_max: 32 << 20,
            collection_bytes_max: 10 << 30,
            change_bytes_max: 8 << 30,
        }
    }
}

/// What became of a request at the leader. `C` stands for the caller: whatever the shell needs to answer it.
#[derive(Debug)]
pub enum Evaluated<C> {
    /// Propose this command. The caller is kept, and comes back from `apply` (or `lose`, or `refused`).
    Propose(Bytes),
    /// Nothing to propose, but the answer rests on a write in flight: it comes back from `apply` (or `lose`).
    Waits,
    /// The answer.
    Answer(C, ItemReply),
}

/// One replica of a partition.
#[derive(Debug)]
pub struct Partition<C> {
    pub(crate) state: PartitionState,
    /// Position that the B-tree is known to hold.
    flushed: Index,
    pub(crate) limits: Limits,
    pub(crate) overlay: Overlay,
    pub(crate) flights: Flights<C>,
    /// At a leader: the ballot in which it proposed a command of a split that is not applied yet, or `CommitSplit`.
    pub(crate) deciding: Option<Deciding>,
    /// A marker that was applied and that no flush has reached yet, with the state behind it. The overlay has a layer that ends there.
    cut: Option<(Marked, Box<PartitionState>)>,
    /// At a leader that was asked for transactional reads: what was written since.
    pub(crate) latest: Option<LatestWrites>,
    /// At a leader: writes in flight below this number were evaluated under an earlier definition, and may lack the change records that the
    /// present one wants.
    pub(crate) old_definition_until: u64,
    /// At a leader: no command is stamped with an earlier time, milliseconds since the epoch.
    stamped_ms: u64,
    #[cfg(feature = "mutations")]
    pub(crate) mutations: Vec<crate::Mutation>,
}

impl<C> Partition<C> {
    /// A replica whose B-tree holds `state`.
    pub fn new(state: PartitionState, limits: Limits) -> Self {
        let flushed = state.applied;
        Self {
            state,
            flushed,
            limits,
            overlay: Overlay::default(),
            flights: Flights::new(),
            deciding: None,
            cut: None,
            latest: None,
            old_definition_until: 0,
            stamped_ms: 0,
            #[cfg(feature = "mutations")]
            mutations: Vec::new(),
        }
    }

    /// Switches deliberate bugs on.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, mutations: &[crate::Mutation]) {
        self.mutations = mutations.to_vec();
    }

    /// Applied state, items aside.
    pub fn state(&self) -> &PartitionState {
        &self.state
    }

    /// Position that the B-tree is known to hold.
    pub fn flushed_position(&self) -> Index {
        self.flushed
    }

    /// Bytes of applied but unflushed writes, those being flushed included.
    pub fn overlay_bytes(&self) -> usize {
        self.overlay.bytes()
    }

    /// Bytes of applied writes that no flush has taken yet.
    pub fn unsealed_bytes(&self) -> usize {
        self.overlay.unsealed_bytes()
    }

    /// Writes in flight.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The time to stamp a command with, at a leader whose clock reads `now_ms`: never earlier than what was stamped, closed or applied.
    pub(crate) fn stamp(&mut self, now_ms: u64) -> u64 {
        self.stamped_ms = now_ms.max(self.stamped_ms).max(self.state.time_ms);
        self.stamped_ms
    }

    /// Closes the time up to `until_ms`, at a leader: it stamps no further command with an earlier time.
    pub fn close(&mut self, until_ms: u64) {
        self.stamped_ms = self.stamped_ms.max(until_ms);
    }

    /// Makes the command that replaces the table's definition, at the leader; answered at once if it is not newer than what is
    /// there. Of a table that is being deleted it is not there yet (`NotReady`) while what it took before can still change something: writes in
    /// flight, transactions that are pending. `now_ms`: milliseconds since the epoch.
    pub fn evaluate_table(
        &mut self,
        table: &TableDefinition,
        now_ms: u64,
        caller: C,
    ) -> Evaluated<C> {
        let written = ItemReply::Written {
            attributes: None,
            old_size_bytes: 0,
            new_size_bytes: 0,
            indexes: Vec::new(),
            collection_bytes: None,
        };
        if table.version <= self.state.table.version {
            let goes = self.state.table.status == TableStatus::Deleting;
            let reply = match goes && (self.awaits_older() || self.has_pending()) {
                true => ItemReply::Fault(ItemFault::NotReady),
                false => written,
            };
            return Evaluated::Answer(caller, reply);
        }
        match command::encode_set_table(self.stamp(now_ms), table) {
            Ok(command) => {
                self.flights
                    .push(command.clone(), Bytes::new(), None, caller, written);
                Evaluated::Propose(command)
            }
            Err(why) => {
                let error = model::ApiError::new(model::ErrorKind::InternalServerError, why);
                Evaluated::Answer(caller, ItemReply::Fault(ItemFault::Api(error)))
            }
        }
    }

    /// Whether writes are in flight that were evaluated under an earlier definition of the table.
    pub(crate) fn awaits_older(&self) -> bool {
        self.flights.len() > 0 && self.flights.front() < self.old_definition_until
    }

    fn has_pending(&self) -> bool {
        self.state.transactions.pending_len() > 0
    }

    /// The commands given out since the last call went into the log in order, the first at `first`.
    pub fn proposed(&mut self, first: Index) {
        self.flights.assign(first);
        self.step_proposed();
    }

    /// The commands given out since the last `proposed` did not go into the log: their callers get `fault`.
    pub fn refused(&mut self, fault: &ItemFault, answers: &mut Vec<(C, ItemReply)>) {
        self.flights.refuse(fault, answers);
        self.step_refused();
    }

    /// Leadership is lost: what was proposed may or may not be committed by the next leader.
    pub fn lose(&mut self, answers: &mut Vec<(C, ItemReply)>) {
        self.flights.lose(answers);
    }

    /// The command that marks a position for a scrub, at a leader that serves. Say `proposed` or `refused`, as for any command.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn marker(&mut self, marker: &Marker, now_ms: u64) -> Result<Bytes, String> {
        command::encode_marker(self.stamp(now_ms), marker)
    }

    /// Whether a marker was applied that no flush has taken yet: the next one should begin at once, and ends there.
    pub fn is_marked(&self) -> bool {
        self.cut.is_some()
    }

    /// A marker is given up: the next flush goes past it.
    pub(crate) fn forget_marker(&mut self) {
        if self.cut.take().is_some() {
            self.overlay.uncut();
        }
    }

    /// Applies a committed entry; entries at or below the applied position change nothing. What may be answered now is added to
    /// `answers`.
    pub fn apply(
        &mut self,
        entry: &Entry,
        answers: &mut Vec<(C, ItemReply)>,
    ) -> Result<(), PartitionError> {
        if entry.index <= self.state.applied {
            return Ok(());
        }
        if entry.index != self.state.applied + 1 {
            return Err(PartitionError::Gap {
                expected: self.state.applied + 1,
                found: entry.index,
            });
        }
        let command = match &entry.payload {
            Payload::Command(command) => Some(command),
            Payload::Noop | Payload::Config(_) => None,
        };
        let ours = self.flights.matches(entry.index, command);
        let mut marked = None;
        match &entry.payload {
            Payload::Noop => {}
            Payload::Config(configuration) => self.state.configuration = configuration.clone(),
            Payload::Command(bytes) => marked = self.apply_command(entry.index, bytes)?,
        }
        self.state.applied = entry.index;
        self.state.ballot = entry.ballot;
        if let Some(marked) = marked.filter(|_| self.cut.is_none()) {
            // A second one, before a flush reached the first, is not worth a layer: its scrub finds nothing here, and is repeated.
            self.overlay.cut();
            self.cut = Some((marked, Box::new(self.state.clone())));
        }
        match ours {
            Ok(true) => self.flights.land(answers),
            Ok(false) => {}
            Err(()) => self.flights.lose(answers),
        }
        Ok(())
    }

    /// An item of the one size becomes one of the other, bytes; 0: there is none.
    pub(crate) fn count(&mut self, old_bytes: u32, new_bytes: u32) {
        let (old, new) = (u64::from(old_bytes), u64::from(new_bytes));
        let state = &mut self.state;
        state.bytes = (state.bytes + new).saturating_sub(old);
        state.items = (state.items + u64::from(new > 0)).saturating_sub(u64::from(old > 0));
    }

    /// Takes over writes that the log holds further on, for a rebuild to a time by which they count already ([`crate::Ahead`]). No further entry
    /// can be applied to it; it has something to seal again.
    pub fn bring_forward(&mut self, writes: Vec<WriteCommand>) {
        if writes.is_empty() {
            return;
        }
        for write in writes {
            self.count(write.old_size_bytes, write.new_size_bytes);
            self.overlay.put(write.key, write.item);
            self.apply_entries(write.entries);
        }
        self.flushed = self.flushed.min(self.state.applied.saturating_sub(1));
    }

    /// Returns the marker, if it is one.
    fn apply_command(
        &mut self,
        index: Index,
        bytes: &Bytes,
    ) -> Result<Option<Marked>, PartitionError> {
        let command = Command::decode(bytes).map_err(PartitionError::BadCommand)?;
        self.state.time_ms = self.state.time_ms.max(command.time_ms);
        match command.kind {
            CommandKind::Write(_)
            | CommandKind::SetTable(_)
            | CommandKind::Prepare(_)
            | CommandKind::Finish(_)
                if self.has_ended() =>
            {
                return Err(PartitionError::AfterSplit(index));
            }
            CommandKind::Write(write) => {
                self.count(write.old_size_bytes, write.new_size_bytes);
                #[cfg(feature = "mutations")]
                if index.is_multiple_of(16) && self.mutations.contains(&crate::Mutation::SkipWrite)
                {
                    return Ok(None);
                }
                if let Some(latest) = &mut self.latest {
                    latest.note(&write.key, index);
                }
                self.overlay.put(write.key, write.item);
                self.apply_entries(write.entries);
                if let Some(value) = write.change {
                    self.add_change((index, 0), value);
                }
            }
            CommandKind::Entries(_) if self.has_ended() => {
                return Err(PartitionError::AfterSplit(index));
            }
            CommandKind::Entries(entries) => self.apply_entries_of(*entries),
            CommandKind::Backfill(backfill) => self.apply_backfill(backfill),
            CommandKind::SetTable(table) => {
                if table.version > self.state.table.version {
                    let before = std::mem::replace(&mut self.state.table, *table);
                    self.old_definition_until = self.flights.end();
                    self.follow_indexes(index, &before);
                }
            }
            CommandKind::Prepare(prepared) => {
                self.state.transactions.prepare(*prepared, command.time_ms);
            }
            CommandKind::Finish(settle) => {
                let time_ms = self.state.time_ms;
                self.state.transactions.finish(&settle, time_ms);
            }
            CommandKind::Trim(trim) => self.apply_trim(&trim),
            CommandKind::Acknowledge(upto) => {
                let changes = &mut self.state.changes;
                changes.acknowledged = changes.acknowledged.max(upto);
            }
            CommandKind::BeginSplit(split) => self.begin_split(*split),
            CommandKind::CommitSplit(left) => self.commit_split(index, left),
            CommandKind::AbandonSplit(left) => self.abandon_split(left),
            CommandKind::Marker(marker) => {
                let time_ms = command.time_ms;
                return Ok(Some(Marked { marker, time_ms }));
            }
        }
        Ok(None)
    }

    /// Takes everything applied so far, up to a marker if there is one, as one batch for the B-tree; none while an earlier batch is
    /// under way or when there is nothing new. Reads go on seeing the batch until `flushed`.
    pub fn seal(&mut self) -> Option<Batch> {
        if self.overlay.is_sealed() || self.state.applied == self.flushed {
            return None;
        }
        #[cfg(feature = "mutations")]
        if self.mutations.contains(&crate::Mutation::FlushPastMarker)
            && let Some((_, state)) = &mut self.cut
        {
            **state = self.state.clone();
            self.overlay.uncut();
        }
        let (marked, state) = match self.cut.take() {
            Some((marked, state)) => (Some(marked), *state),
            None => (None, self.state.clone()),
        };
        let items = self.overlay.seal(state.applied);
        Some(Batch {
            state,
            items,
            marked,
        })
    }

    /// The B-tree durably holds everything up to `position`.
    pub fn flushed(&mut self, position: Index) {
        if position > self.flushed {
            self.flushed = position;
            self.overlay.drop_sealed(position);
        }
    }

    /// The newest applied item under `key`.
    pub(crate) fn lookup(
        &self,
        base: &impl BTree,
        key: &[u8],
    ) -> Result<Option<Bytes>, PartitionError> {
        match self.overlay.get(key) {
            Some(item) => Ok(item.clone()),
            None => Ok(base.get(key)?),
        }
    }

    /// The answer to a request whose key cannot belong to this partition; none if it can.
    pub(crate) fn refuse_key(&self, key: &[u8]) -> Option<ItemReply> {
        if key.is_empty() || key.len() > crate::KEY_BYTES_MAX {
            let text = format!("an encoded key has {} bytes", key.len());
            return Some(ItemReply::Fault(ItemFault::Api(
                model::ApiError::validation(text),
            )));
        }
        let foreign = !self.state.range.contains(key) || self.has_ended();
        foreign.then_some(ItemReply::Fault(ItemFault::WrongRange {
            partition: None,
            children: Vec::new(),
        }))
    }
}
