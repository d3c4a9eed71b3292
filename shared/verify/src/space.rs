//! Tables that all threads share: a state of the model holds digests only, what they stand for is here. So the same replica in a
//! million states is kept, and stepped with the same input, once.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use paxos::{Configuration, Message, NodeId};

use crate::host::Host;
use crate::step::Outcome;

/// 64 bits that stand for a value. Among ten million values two collide with a probability of 3 in a million.
pub type Digest = u64;

/// The digest of a value: the same in every run.
pub fn digest<T: Hash + ?Sized>(value: &T) -> Digest {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A message on its way.
#[derive(Clone, Debug, Hash)]
pub struct Envelope {
    /// Sender.
    pub from: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Receiver.
    pub to: NodeId,
    /// The message.
    pub message: Message,
}

const SHARDS: usize = 64;

/// A map for several threads.
struct Table<K, V>(Vec<Mutex<HashMap<K, V>>>);

impl<K: Hash + Eq + Copy + Into<Key>, V: Clone> Table<K, V> {
    fn new() -> Self {
        Table((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    fn shard(&self, key: K) -> std::sync::MutexGuard<'_, HashMap<K, V>> {
        let at = (key.into().0 % SHARDS as u64) as usize;
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: K) -> Option<V> {
        self.shard(key).get(&key).cloned()
    }

    fn put(&self, key: K, value: V) -> V {
        self.shard(key).entry(key).or_insert(value).clone()
    }

    fn len(&self) -> usize {
        let count = |shard: &Mutex<HashMap<K, V>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        self.0.iter().map(count).sum()
    }
}

/// What picks a table's shard.
struct Key(u64);

impl From<Digest> for Key {
    fn from(digest: Digest) -> Key {
        Key(digest)
    }
}

impl From<(Digest, Digest)> for Key {
    fn from((host, event): (Digest, Digest)) -> Key {
        Key(host ^ event.rotate_left(17))
    }
}

/// The tables.
pub struct Space {
    hosts: Table<Digest, Arc<Host>>,
    envelopes: Table<Digest, Arc<Envelope>>,
    configurations: Table<Digest, Arc<Configuration>>,
    outcomes: Table<(Digest, Digest), Option<Arc<Outcome>>>,
}

impl Default for Space {
    fn default() -> Self {
        Space {
            hosts: Table::new(),
            envelopes: Table::new(),
            configurations: Table::new(),
            outcomes: Table::new(),
        }
    }
}

impl Space {
    /// Keeps a host.
    pub fn keep_host(&self, host: Host) -> Digest {
        let key = host.digest();
        self.hosts.put(key, Arc::new(host));
        key
    }

    /// The host of a digest, which was kept before.
    pub fn host(&self, key: Digest) -> Arc<Host> {
        self.hosts.get(key).expect("a state's hosts are kept")
    }

    /// Keeps a message. The last byte of its digest is the number of the receiving node.
    pub fn keep_envelope(&self, envelope: Envelope) -> Digest {
        let key = digest(&envelope) & !0xff | envelope.to.0;
        self.envelopes.put(key, Arc::new(envelope));
        key
    }

    /// The message of a digest, which was kept before.
    pub fn envelope(&self, key: Digest) -> Arc<Envelope> {
        self.envelopes
            .get(key)
            .expect("a state's messages are kept")
    }

    /// Keeps a configuration.
    pub fn keep_configuration(&self, configuration: &Configuration) -> Digest {
        let key = digest(configuration);
        self.configurations
            .put(key, Arc::new(configuration.clone()));
        key
    }

    /// The configuration of a digest, which was kept before.
    pub fn configuration(&self, key: Digest) -> Arc<Configuration> {
        self.configurations
            .get(key)
            .expect("a state's configuration is kept")
    }

    /// What comes of an event at a host, found out once.
    pub fn outcome(
        &self,
        host: Digest,
        event: Digest,
        find: impl FnOnce() -> Option<Outcome>,
    ) -> Option<Arc<Outcome>> {
        if let Some(known) = self.outcomes.get((host, event)) {
            return known;
        }
        let outcome = find().map(Arc::new);
        self.outcomes.put((host, event), outcome)
    }

    /// Different hosts and messages met, and steps of replicas done.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.hosts.len(), self.envelopes.len(), self.outcomes.len())
    }
}
