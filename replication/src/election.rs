//! Fast leader election, and the connections of the election port that it runs on.
//! SKELETON of the public API; bodies follow within the hour.

use std::sync::Arc;
use crate::members::Members;
use crate::packet::{Notification, PeerState};
use crate::{Epoch, Link, Moment, Outputs, ServerId, Zxid};

/// What a server votes for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vote {
    pub leader: i64,
    pub zxid: i64,
    pub round: i64,
    pub epoch: i64,
}

#[derive(Clone, Debug)]
pub struct ElectionSettings {
    /// Before votes are sent again for the first time; doubles each time (200 ms).
    pub interval_min_ms: u64,
    pub interval_max_ms: u64, // 60 000
    /// Announce all own addresses in the handshake (multiAddress.enabled), which servers before 3.6 do not understand.
    pub multi_address: bool,
}
impl Default for ElectionSettings {}

pub struct Election {}

impl Election {
    /// `is_participant`: this server's own role (peerType); whether it *votes* the members say. Not LOOKING until `look`.
    pub fn new(me: ServerId, members: Arc<Members>, is_participant: bool, settings: ElectionSettings) -> Election;

    /// Committed and, while newer, last seen configuration. Running elections begin again at the next `look`.
    pub fn set_members(&mut self, committed: Arc<Members>, last_seen: Option<Arc<Members>>);

    /// Enters LOOKING: a new round, with the vote for itself. `zxid`: last logged (or (e,0)), `None` when what this server
    /// holds is not to be trusted (it then never votes, only joins). Observers pass the same; their votes say nothing.
    pub fn look(&mut self, zxid: Option<Zxid>, epoch: Epoch, now: Moment, out: &mut Outputs);

    // All links of Port::Election, and only those. The first bytes of a dialled connection (the handshake) are sent
    // from here. A `Hang` right behind a `Send` must let the bytes leave first.
    pub fn linked(&mut self, link: Link, dialled: bool, addresses: Vec<String>, now: Moment, out: &mut Outputs);
    pub fn unreachable(&mut self, peer: ServerId, now: Moment, out: &mut Outputs);
    pub fn unlinked(&mut self, link: Link, now: Moment, out: &mut Outputs);
    /// Input::Drained for links of the election port: MUST be passed on, a second message waits for it.
    pub fn drained(&mut self, link: Link, bytes: u64, now: Moment, out: &mut Outputs);
    pub fn received(&mut self, link: Link, n: Notification, now: Moment, out: &mut Outputs);

    pub fn timeout(&mut self, now: Moment, out: &mut Outputs);
    pub fn next_timeout(&self) -> Option<Moment>;

    /// Some once, when the election ended: ask after each of the calls above. State then is LEADING, FOLLOWING or OBSERVING until `look` again.
    pub fn outcome(&mut self) -> Option<Vote>;

    /// After synchronisation (leader: at activation) the vote's epoch becomes the new epoch.
    pub fn established(&mut self, epoch: Epoch);

    /// The vote as last decided; before any election the first own one.
    pub fn vote(&self) -> Vote;
    /// While LOOKING: the leader proposed now.
    pub fn proposal(&self) -> Vote;
    pub fn state(&self) -> PeerState;
    pub fn round(&self) -> i64;
    /// Voters that have not voted, unreachable ones named: for operators' words.
    pub fn waiting_for(&self) -> String;
}

// members.rs (public API):
//   pub struct Members;  #[derive(Clone, Debug)], PartialEq = Java's (same version, or same servers/groups/weights)
//   Members::parse(text: &str) -> Result<Members, BadMembers>   // configuration text, `version=` in hex
//   Members::new(servers: Vec<(ServerId, Member)>) -> Result<Members, BadMembers>
//   .text() -> &str   .version() -> i64   .with_version(i64) -> Members
//   .voters() -> impl Iterator<Item = ServerId>   .observers()   .is_voter(id)   .get(id) -> Option<&Member>   .servers()
//   pub struct Member { addresses: Vec<Address>, is_observer: bool, client: Option<(String, u16)>, ... }
//   pub struct Address { host: String, quorum_port: u16, election_port: u16 }
// quorums.rs (public API):
//   pub struct Quorums;  Quorums::new(committed: Arc<Members>, last_seen: Option<Arc<Members>>)  // joint while last_seen is newer
//   .reached(|id: ServerId| -> bool) -> bool           // is {ids for which it holds} a quorum in every configuration?
//   .agreed(|id| -> Option<T>) -> Option<T>            // greatest mark that a quorum has reached (T: Ord + Copy)
//   .voters() -> impl Iterator<Item = ServerId>  .is_voter(id)  .size() -> usize (smallest quorum, for words)
//   .committed() -> &Arc<Members>
// packet.rs (public API):
//   packet::Side { Learner, Leader }                    // who sent it
//   packet::quorum::decode(bytes: &[u8], from: Side, data_max: usize) -> Result<Option<(QuorumPacket, usize)>, Malformed>
//   packet::quorum::encode(&QuorumPacket) -> Vec<u8>
//   packet::quorum::proposals(&Proposal) -> Arc<[u8]>, informs(&Proposal), commits(&Proposal): whole batch in one buffer
//   packet::quorum::entry_zxid(entry: &[u8]) -> Option<Zxid>   // the zxid in a record's txn header
//   packet::notification::{decode(bytes) -> Result<Option<(Option<Notification>, usize)>, Malformed>, encode(&Notification) -> Vec<u8>}
//   packet::handshake::{Handshake { peer: Option<ServerId>, addresses: Vec<String> }, decode, encode}
