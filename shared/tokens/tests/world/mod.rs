//! The world: routers with clients that want more than they get, instances, and messages between them. Time is simulated in steps of ten
//! milliseconds; every router and instance has a clock of its own.

use std::collections::BTreeMap;

use model::capacity::Direction;
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{TableDefinition, TableId, Units};
use protocol::tokens::{Grant, TokenReply, TokenRequest};
use tokens::{Answered, Instance, InstanceSettings, Ring, ShareSettings, Shares};

const STEP_MS: u64 = 10;
const HOUR_MS: u64 = 3_600_000;
/// Heartbeats of instances.
const BEAT_MS: u64 = 1_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Messages that are lost, of a hundred.
    pub loss_percent: u64,
    /// Every answer comes twice, and once more later.
    pub replay: bool,
    /// Somebody who sees no request sends answers that promise everything.
    pub forge: bool,
}

struct Router {
    shares: Shares,
    ring: Ring,
    /// Of its clock against the world's.
    skew_ms: u64,
    /// Units a second that its clients ask for, and what is left over of the last step.
    demand: u64,
    owed: f64,
}

struct Gac {
    instance: Instance,
    skew_ms: u64,
    ring: Ring,
}

enum Message {
    Request(u64, TokenRequest),
    Reply(usize, u64, TokenReply),
}

pub struct World {
    now_ms: u64,
    random: u64,
    table: TableDefinition,
    routers: Vec<Router>,
    instances: BTreeMap<u64, Gac>,
    /// By the time at which they arrive, and a number that keeps them apart.
    messages: BTreeMap<(u64, u64), Message>,
    sent: u64,
    faults: Faults,
    admitted: f64,
    /// Answers that no router was waiting for.
    pub unasked: u64,
}

impl World {
    pub fn new(seed: u64, routers: usize, instances: usize, rate: u64, faults: Faults) -> Self {
        let mut world = Self {
            now_ms: 0,
            random: seed,
            table: table(rate),
            routers: Vec::new(),
            instances: BTreeMap::new(),
            messages: BTreeMap::new(),
            sent: 0,
            faults,
            admitted: 0.0,
            unasked: 0,
        };
        let settings = ShareSettings {
            routers_expected: routers as u64,
            ..ShareSettings::default()
        };
        for number in 0..routers {
            let incarnation = world.draw();
            let skew_ms = world.draw() % (24 * HOUR_MS);
            world.routers.push(Router {
                shares: Shares::new(settings, number as u64 + 1, incarnation),
                ring: Ring::default(),
                skew_ms,
                demand: 3 * rate / routers as u64 + 1,
                owed: 0.0,
            });
        }
        for number in 1..=instances as u64 {
            world.start_instance(number);
        }
        world
    }

    /// Units a second that the clients of these routers ask for, evenly; those of the others ask for nothing.
    pub fn demand_at(&mut self, routers: &[usize], units: u64) {
        for (number, router) in self.routers.iter_mut().enumerate() {
            let asked = routers.contains(&number);
            router.demand = if asked {
                units / routers.len() as u64
            } else {
                0
            };
        }
    }

    pub fn start_instance(&mut self, number: u64) {
        let skew_ms = self.draw() % (24 * HOUR_MS);
        let gac = Gac {
            instance: Instance::new(InstanceSettings::default(), self.now_ms + skew_ms),
            skew_ms,
            ring: Ring::default(),
        };
        self.instances.insert(number, gac);
    }

    pub fn kill_instances(&mut self) {
        self.instances.clear();
    }

    pub fn restart_instance(&mut self, number: u64) {
        self.instances.remove(&number);
        self.start_instance(number);
    }

    /// The table gets another rate; all routers know at once.
    pub fn provision(&mut self, rate: u64) {
        self.table.billing = table(rate).billing;
        self.table.version += 1;
    }

    /// Units admitted within so many seconds.
    pub fn admitted_in_s(&mut self, seconds: u64) -> f64 {
        let before = self.admitted;
        self.run_s(seconds);
        self.admitted - before
    }

    pub fn run_s(&mut self, seconds: u64) {
        let end_ms = self.now_ms + seconds * 1_000;
        while self.now_ms < end_ms {
            self.now_ms += STEP_MS;
            self.beat();
            self.deliver();
            self.consume();
            self.ask();
        }
    }

    fn beat(&mut self) {
        if !self.now_ms.is_multiple_of(BEAT_MS) {
            return;
        }
        let alive: Vec<u64> = self.instances.keys().copied().collect();
        for router in &mut self.routers {
            let now_ms = self.now_ms + router.skew_ms;
            for &number in &alive {
                router.ring.heard(now_ms, number);
            }
            router.ring.expire(now_ms);
        }
        for gac in self.instances.values_mut() {
            let now_ms = self.now_ms + gac.skew_ms;
            let before: Vec<u64> = gac.ring.instances().collect();
            for &number in &alive {
                gac.ring.heard(now_ms, number);
            }
            gac.ring.expire(now_ms);
            if before != gac.ring.instances().collect::<Vec<_>>() {
                gac.instance.ring_changed(now_ms);
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.messages.first_entry() {
            if entry.key().0 > self.now_ms {
                return;
            }
            match entry.remove() {
                Message::Request(number, request) => {
                    let router = request.router as usize - 1;
                    let Some(gac) = self.instances.get_mut(&number) else {
                        continue;
                    };
                    let now_ms = self.now_ms + gac.skew_ms;
                    let Some(reply) = gac.instance.answer(now_ms, &request) else {
                        continue;
                    };
                    if self.faults.replay {
                        let later = Message::Reply(router, number, reply.clone());
                        self.send_after(later, 1_500);
                        self.send(Message::Reply(router, number, reply.clone()));
                    }
                    self.send(Message::Reply(router, number, reply));
                }
                Message::Reply(router, number, reply) => {
                    let router = &mut self.routers[router];
                    let now_ms = self.now_ms + router.skew_ms;
                    if router.shares.answered(now_ms, number, &reply) == Answered::Unasked {
                        self.unasked += 1;
                    }
                }
            }
        }
    }

    /// Clients send single units until they are refused what they want of this step.
    fn consume(&mut self) {
        for router in &mut self.routers {
            let now_ms = self.now_ms + router.skew_ms;
            router.owed += router.demand as f64 * STEP_MS as f64 / 1000.0;
            while router.owed >= 1.0 {
                router.owed -= 1.0;
                let admitted =
                    router
                        .shares
                        .admit(now_ms, &self.table, Direction::Write, Units::ONE);
                if let Ok(Some(admission)) = admitted {
                    router.shares.settle(now_ms, admission, Units::ONE);
                    self.admitted += 1.0;
                }
            }
        }
    }

    fn ask(&mut self) {
        for number in 0..self.routers.len() {
            let router = &mut self.routers[number];
            let now_ms = self.now_ms + router.skew_ms;
            let random = &mut self.random;
            let requests = router
                .shares
                .requests(now_ms, &router.ring, || draw(random));
            for (instance, request) in requests {
                // It may come twice.
                if self.faults.replay {
                    self.send(Message::Request(instance, request.clone()));
                }
                self.send(Message::Request(instance, request));
            }
            if self.faults.forge && self.now_ms.is_multiple_of(500) {
                let nonce = self.draw();
                let promised = Grant {
                    share: Units::MAX,
                    pace: Units::MAX,
                    extra: Units::MAX,
                    fresh_ms: u64::MAX,
                    limit: model::error::ThroughputLimit::Provisioned,
                };
                let forged = TokenReply {
                    nonce,
                    tables: vec![protocol::tokens::TableGrant {
                        table: self.table.id,
                        read: promised,
                        write: promised,
                    }],
                };
                self.send(Message::Reply(number, 1, forged));
            }
        }
    }

    fn send(&mut self, message: Message) {
        let delay_ms = 1 + self.draw() % 40;
        self.send_after(message, delay_ms);
    }

    fn send_after(&mut self, message: Message, delay_ms: u64) {
        if self.draw() % 100 < self.faults.loss_percent {
            return;
        }
        self.sent += 1;
        self.messages
            .insert((self.now_ms + delay_ms, self.sent), message);
    }

    fn draw(&mut self) -> u64 {
        draw(&mut self.random)
    }
}

/// SplitMix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn table(rate: u64) -> TableDefinition {
    TableDefinition {
        id: TableId(100),
        name: "measured".to_owned(),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "pk".to_owned(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::Provisioned {
            read_units: rate,
            write_units: rate,
        },
        status: TableStatus::Active,
        created_ms: 0,
        uuid: String::new(),
        deletion_protection: false,
        table_class: None,
        tags: Default::default(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}
