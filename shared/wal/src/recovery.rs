//! Recovery: turns the segments of a folder back into groups. Owns the distinction between a torn tail (written, never
//! acknowledged, cut) and damage (acknowledged, then lost: the groups concerned are fenced). Never writes.
//!
//! Two numbers make the distinction exact. Each record says how far its segment was durable when it was written, so a hole
//! with such a record behind it had been acknowledged. And each record has a sequence number within its group, so the
//! groups that lost nothing to a hole show it by their next record or checkpoint; all others count as damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use paxos::GroupId;

use crate::error::WalError;
use crate::group::{Group, Place, RunCount};
use crate::record::{self, Header, Kind, Reader};
use crate::segment::{self, Found, Owner};
use crate::unreadable::{self, Content};
use crate::witness::Newest;

/// A segment that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) number: u32,
    pub(crate) bytes: u64,
    /// Its checkpoint is whole: replay can start here.
    pub(crate) sound: bool,
}

/// What the folder holds.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) why_damaged: BTreeMap<GroupId, String>,
    pub(crate) unattributed_damage: bool,
    pub(crate) segments: Vec<Kept>,
    /// A segment whose creation never finished: to be deleted.
    pub(crate) unfinished: Option<u32>,
    /// Torn bytes at the end of the last segment.
    pub(crate) torn_bytes: u64,
}

/// Live runs by segment.
pub(crate) type LiveRuns = BTreeMap<u32, u64>;

impl RunCount for LiveRuns {
    fn added(&mut self, segment: u32) {
        *self.entry(segment).or_default() += 1;
    }

    fn dropped(&mut self, segment: u32) {
        if let Some(count) = self.get_mut(&segment) {
            *count = count.saturating_sub(1);
        }
    }
}

/// A group while it is being replayed.
#[derive(Default)]
struct Replaying {
    group: Group,
    /// A hole was passed that may have held records of this group.
    suspect: Option<String>,
    /// Records are known to be lost; nothing counts until a checkpoint gives the hard state again.
    broken: Option<String>,
}

#[derive(Default)]
struct Replay {
    groups: BTreeMap<GroupId, Replaying>,
    unattributed_damage: bool,
    unattributed_before: bool,
    live: LiveRuns,
}

/// Reads all segments in `dir`. `newest` is what the witness says; `must_exist`: a folder without segments has lost them.
pub(crate) fn replay(
    dir: &Path,
    owner: Owner,
    newest: Option<Newest>,
    must_exist: bool,
) -> Result<(Replayed, LiveRuns), WalError> {
    let mut numbers = segment::list(dir)?;
    let mut replay = Replay::default();
    let mut out = Replayed::default();
    let newest = newest.unwrap_or_default();
    if let Some(&last) = numbers.last()
        && last > newest.segment
    {
        let (Content { bytes, gaps }, head) = read(dir, last, owner)?;
        let found = segment::scan(&bytes, last);
        let begun = synced_to(&found) > 0 || !gaps.is_empty();
        let whole = head && checkpoint_is_whole(&found, &bytes);
        if !begun && !whole {
            out.unfinished = numbers.pop();
        }
    }
    let mut before: Option<u32> = None;
    for (at, &number) in numbers.iter().enumerate() {
        let (Content { bytes, gaps }, _) = read(dir, number, owner)?;
        let is_last = at + 1 == numbers.len();
        let mut found = segment::scan(&bytes, number);
        let mut end = bytes.len();
        if is_last {
            // What the disk refuses to give was not torn: a torn write can be read.
            let unreadable = gaps.last().map_or(0, |gap| gap.end);
            let witnessed = match number == newest.segment {
                true => newest.durable as usize,
                false => 0,
            };
            let durable = synced_to(&found).max(witnessed).max(unreadable);
            (end, out.torn_bytes) = cut_torn_tail(&mut found, bytes.len(), durable);
        }
        match before {
            // The end of a segment cannot be seen from within; the next one's checkpoint vouches for it.
            Some(before) if before + 1 == number => {
                replay.suspect_all(&format!("the checkpoint of segment {number} is damaged"));
            }
            Some(_) => {
                replay.suspect_all(&format!("segments before {number} are missing"));
                replay.unattributed_damage = true;
            }
            None => replay.unattributed_damage = !checkpoint_is_whole(&found, &bytes),
        }
        replay.segment(number, &found, &bytes, is_last);
        let sound = checkpoint_is_whole(&found, &bytes);
        out.segments.push(Kept {
            number,
            bytes: end as u64,
            sound,
        });
        before = Some(number);
    }
    let last = before.unwrap_or(0);
    if last < newest.segment {
        let lost = newest.segment;
        replay.suspect_all(&format!(
            "segment {lost}, the newest of the log, is missing"
        ));
        replay.unattributed_damage = true;
    } else if last == 0 && must_exist {
        replay.unattributed_damage = true;
    }
    let live = replay.finish(&mut out);
    Ok((out, live))
}

/// The bytes of a segment, and whether its head is valid.
fn read(dir: &Path, number: u32, owner: Owner) -> Result<(Content, bool), WalError> {
    let path = segment::path(dir, number);
    let content = unreadable::read(&path).map_err(|e| WalError::io("read", &path, &e))?;
    for gap in &content.gaps {
        tracing::error!(path = %path.display(), from = gap.start, to = gap.end, "the disk does not give these bytes");
    }
    let head = segment::check_head(&content.bytes, number, owner, &path)?;
    Ok((content, head))
}

/// How far the segment is known to have been durable.
fn synced_to(found: &[Found]) -> usize {
    let synced = |found: &Found| match found {
        Found::Record(header, _) => Some(header.synced as usize),
        Found::Hole { .. } => None,
    };
    found.iter().filter_map(synced).max().unwrap_or(0)
}

/// Drops everything from the first hole on that was never acknowledged: that lies behind `durable`. Returns where the segment
/// ends now, and how many bytes of recognisable records were dropped.
fn cut_torn_tail(found: &mut Vec<Found>, len: usize, durable: usize) -> (usize, u64) {
    let end_of = |found: &Found| match found {
        Found::Record(header, _) => header.offset as usize + header.record_len(),
        Found::Hole { from, len, .. } => from + len,
    };
    let torn = found
        .iter()
        .position(|f| matches!(f, Found::Hole { from, .. } if *from >= durable));
    match torn {
        Some(at) => {
            let written = found.iter().map(end_of).max().unwrap_or(0).min(len);
            let from = at
                .checked_sub(1)
                .map_or(segment::HEAD_BYTES, |at| end_of(&found[at]));
            found.truncate(at);
            (from, written.saturating_sub(from) as u64)
        }
        None => {
            // A record that the file cuts off says nothing of what came behind it.
            let end = found.last().map_or(segment::HEAD_BYTES, end_of).min(len);
            if end < durable {
                // The file ends before what was durable.
                found.push(Found::Hole {
                    from: end,
                    len: durable - end,
                    group: None,
                });
            }
            (end, 0)
        }
    }
}

/// Whether all chunks of a segment's checkpoint are there.
fn checkpoint_is_whole(found: &[Found], bytes: &[u8]) -> bool {
    let mut chunks = 0;
    for item in found {
        match item {
            Found::Record(header, body) if header.kind == Kind::Checkpoint => {
                if header.sequence != chunks {
                    return false;
                }
                chunks += 1;
                if bytes.get(body.start).is_some_and(|flags| flags & 1 != 0) {
                    return true;
                }
            }
            _ => return false,
        }
    }
    false
}

impl Replay {
    fn suspect_all(&mut self, why: &str) {
        for replaying in self.groups.values_mut() {
            replaying.suspect.get_or_insert_with(|| why.to_owned());
        }
    }

    fn segment(&mut self, number: u32, found: &[Found], bytes: &[u8], is_last: bool) {
        let whole = checkpoint_is_whole(found, bytes);
        let mut listed = BTreeSet::new();
        let mut in_checkpoint = whole;
        for (at, item) in found.iter().enumerate() {
            let is_checkpoint =
                matches!(item, Found::Record(header, _) if header.kind == Kind::Checkpoint);
            if in_checkpoint && !is_checkpoint {
                in_checkpoint = false;
                self.all_listed(&listed);
            }
            match item {
                Found::Hole { from, group, .. } => {
                    let records_follow = found[at..].iter().any(|f| matches!(f, Found::Record(..)));
                    // Behind the last record of an older segment lie unused bytes, or the next checkpoint tells.
                    if records_follow || is_last {
                        self.hole(number, *from, *group);
                    }
                }
                Found::Record(_, body) if is_checkpoint => {
                    self.checkpoint(&bytes[body.clone()], &mut listed);
                }
                Found::Record(header, body) => {
                    self.record(number, header, &bytes[body.clone()]);
                }
            }
        }
        if in_checkpoint {
            self.all_listed(&listed);
        }
    }

    /// A whole checkpoint names every group there was: others are gone, and none is unknown.
    fn all_listed(&mut self, listed: &BTreeSet<GroupId>) {
        let live = &mut self.live;
        self.groups.retain(|group, replaying| {
            let stays = listed.contains(group);
            if !stays {
                replaying.group.clear_runs(live);
            }
            stays
        });
        self.unattributed_damage = self.unattributed_before;
    }

    fn hole(&mut self, number: u32, from: usize, group: Option<GroupId>) {
        let why = format!("segment {number} is damaged at byte {from}");
        match group {
            Some(group) => self.groups.entry(group).or_default().suspect = Some(why),
            None => {
                self.suspect_all(&why);
                self.unattributed_damage = true;
            }
        }
    }

    fn checkpoint(&mut self, body: &[u8], listed: &mut BTreeSet<GroupId>) {
        let mut reader = Reader(body);
        // What was lost beyond repair once stays lost.
        self.unattributed_before |= reader.u8().is_some_and(|flags| flags & 2 != 0);
        while !reader.0.is_empty() {
            let Some((id, saved)) = Group::read_hard_state(&mut reader) else {
                return;
            };
            listed.insert(id);
            let replaying = self.groups.entry(id).or_default();
            replaying.suspect = None;
            if replaying.broken.is_some()
                || replaying.group.sequence != saved.sequence
                || saved.damaged
            {
                replaying.broken = None;
                replaying.group.restart_from(saved, &mut self.live);
            }
        }
    }

    fn record(&mut self, number: u32, header: &Header, body: &[u8]) {
        if header.kind == Kind::Mark {
            return;
        }
        if header.kind == Kind::Tombstone {
            if let Some(mut gone) = self.groups.remove(&header.group) {
                gone.group.clear_runs(&mut self.live);
            }
            return;
        }
        let live = &mut self.live;
        let replaying = self.groups.entry(header.group).or_default();
        if record::is_first(header.sequence) {
            // A group's life starts here, whatever its number stood for before.
            replaying.group.clear_runs(live);
            *replaying = Replaying::default();
            replaying.group.sequence = header.sequence - 1;
        }
        let expected = replaying.group.sequence + 1;
        let place = Place {
            segment: number,
            offset: header.offset,
            len: header.written_len() as u32,
        };
        let decoded = if replaying.broken.is_some() {
            return;
        } else if header.sequence != expected {
            Err(format!("records are missing before segment {number}"))
        } else {
            record::decode_ops(body)
                .ok_or_else(|| "a record cannot be decoded".to_owned())
                .and_then(|ops| replaying.group.ends().after(&ops).map(|_| ops))
        };
        match decoded {
            Ok(ops) => {
                replaying.suspect = None;
                replaying.group.apply(&ops, place, live);
                replaying.group.sequence = header.sequence;
            }
            Err(why) => {
                replaying.group.clear_runs(live);
                replaying.broken = Some(why);
            }
        }
    }

    fn finish(mut self, out: &mut Replayed) -> LiveRuns {
        for (id, mut replaying) in self.groups {
            let group = &mut replaying.group;
            let why = replaying.broken.or(replaying.suspect).or_else(|| {
                (!group.whole()).then(|| {
                    if group.damaged {
                        "records were lost earlier".to_owned()
                    } else {
                        format!("entries up to {} are missing", group.missing_to)
                    }
                })
            });
            if let Some(why) = why {
                group.damaged = true;
                group.clear_runs(&mut self.live);
                out.why_damaged.insert(id, why);
            }
            out.groups.insert(id, replaying.group);
        }
        out.unattributed_damage = self.unattributed_damage || self.unattributed_before;
        self.live
    }
}
