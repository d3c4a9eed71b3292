//! Followers tell their leader what they served (`protocol::demand`), once a second: without that, a partition that is only read eventually would look
//! idle to whoever decides on splits.

use paxos::NodeId;
use protocol::demand::FollowerDemand;

use crate::env::Env;
use crate::group::Group;

impl Group {
    /// What was asked of this replica since the last call, and the node that should hear of it; none: nothing, or it leads itself.
    pub(crate) fn demand(&mut self, env: &Env) -> Option<(NodeId, FollowerDemand)> {
        let leader = self.replica.status().leader;
        let told = self.store.as_mut()?.admission.hand_on(self.id);
        let leader = leader.filter(|&leader| leader != env.node.id)?;
        Some((leader, told?))
    }

    /// A follower of this group told what it served.
    pub(crate) fn hear_demand(&mut self, env: &Env, demand: &FollowerDemand) {
        if !self.leads() {
            return;
        }
        let Some(store) = &mut self.store else { return };
        // Before a split the follower may have served keys that are another partition's now.
        let range = &store.partition.state().range;
        let keys = demand.keys.iter();
        let keys: Vec<_> = keys
            .filter(|(key, _)| range.contains(key))
            .cloned()
            .collect();
        let heat = (&env.node.settings.heat, env.node.id.0);
        store
            .admission
            .take_in(env.now, heat, demand.served, demand.refused, &keys);
    }
}
