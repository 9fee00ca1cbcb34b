//! Defects that can be planted, one at a time, to show that the simulation (`tests/zab`) finds them: bugs that Apache's
//! servers have had or still have, and for the rules of this implementation what would happen without them.
//! Only a build with `--cfg zab_mutants` can plant any. In every other one `planted` is `false` at compile time.

macro_rules! mutants {
    ($($name:ident, $ids:literal, $story:literal;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $(#[doc = $story] $name,)*
        }

        #[cfg(zab_mutants)]
        impl Mutant {
            pub const ALL: &[Mutant] = &[$(Mutant::$name),*];

            /// The numbers of Apache's issues (ZOOKEEPER-…); empty where it has none, or has never had the defect.
            pub fn issues(self) -> &'static str {
                match self {
                    $(Mutant::$name => $ids,)*
                }
            }

            pub fn story(self) -> &'static str {
                match self {
                    $(Mutant::$name => $story,)*
                }
            }
        }
    };
}

mutants! {
    // SYNCHRONIZATION, the learner's side.
    AcksEpochBeforeHistory, "3911 3023 4785",
        "NEWLEADER is acknowledged before the history that came with it is on disk";
    AcksProposalsUnsynced, "4646",
        "a follower acknowledges proposals that its disk does not have yet";
    RaisesEpochBeforeHistory, "4643",
        "currentEpoch is on disk before the history of a DIFF: a shorter history looks more recent";
    RaisesEpochBeforeSnapshot, "4643",
        "currentEpoch is on disk before the snapshot that the epoch starts from";
    RaisesEpochAtUpToDate, "1282",
        "NEWLEADER is acknowledged without currentEpoch on disk; UPTODATE writes it";
    DropsOutstandingAtNewLeader, "4394",
        "NEWLEADER clears what was proposed and not committed, and the COMMIT finds nothing";
    AppliesATruncSyncInMemory, "5094",
        "what follows a TRUNC is logged only at NEWLEADER; a sync that breaks off leaves memory ahead of the log";
    KeepsASnapshotInMemory, "3642",
        "a snapshot counts as held before it is on disk; a sync that breaks off leaves memory ahead of the log";
    PublishesBeforeUpToDate, "",
        "COMMITs of a synchronisation are shown before the leader's epoch is established";
    CommitsAllAtUpToDate, "",
        "UPTODATE is read as the commit of everything received";
    PromisesInMemory, "",
        "a follower promises an epoch before acceptedEpoch is on disk";
    FollowsAStaleEpoch, "",
        "a follower that has promised a later epoch goes back to a leader of an earlier one";
    RefusesToStartBetweenHistoryAndEpoch, "2354",
        "a server that crashed between history and currentEpoch does not start again";

    // SYNCHRONIZATION, the leader's side.
    TakesAnyAckForTheEpochs, "4685",
        "a follower acknowledges proposals before NEWLEADER, and the leader takes the first ACK for NEWLEADER's";
    NewLeaderOvertakesHistory, "1136",
        "NEWLEADER is sent ahead of the history that it closes";
    ForwardsOnlyAfterTheAck, "3104",
        "proposals made between NEWLEADER and its ACK are not sent to the learner";
    ForgetsOutstandingAtRegistration, "",
        "a learner is not sent the proposals that are outstanding when it is registered";
    SnapSkipsOutstanding, "3104",
        "what is outstanding when a snapshot is taken is taken to be in it";
    LeavesAGapBehindTheDisk, "2418",
        "between the history read from disk and that in memory one record is left out";
    KeepsSyncedTxnsOutOfTheCache, "4925",
        "what a synchronisation brought is missing from the cache, and a later leader skips it";
    GivesABlankLearnerPartOfHistory, "4352 1319",
        "a blank learner is sent a DIFF of what the cache happens to hold";
    KeepsADeposedLeadersTail, "1154",
        "a learner that holds more than its leader keeps it";
    TruncatesTooMuch, "1156",
        "a TRUNC takes one committed record too many, and a crash comes before it is sent again";
    TruncatesOutstanding, "",
        "a follower that logged and acknowledged what is still outstanding is told to truncate it when it comes back";
    SendsUpToDateBeforeAQuorum, "",
        "UPTODATE follows a learner's own ACK of NEWLEADER instead of a quorum's";
    SendsUpToDateBeforeTheCommit, "",
        "UPTODATE is sent to a learner whose tail is not committed yet, which takes it for committed";
    CommitsBelowTheSyncPoint, "",
        "a learner is sent COMMITs without PROPOSALs on its connection; an Apache follower ends itself";

    // DISCOVERY and election.
    ForgetsTheLoggedTail, "2845",
        "a server votes and reports with what it has applied, not with what it has logged";
    VotesBeforeTheLogIsIdle, "4712 4541",
        "what was asked of the log in the last role is still under way in the next";
    ReportsAnEpochNeverEstablished, "",
        "(e,0) is reported by who has acknowledged epoch e, which may never have stood";
    LeadsBeforeItsOwnEpochIsDurable, "1291",
        "a leader counts itself before its own epoch files are on disk";
    CountsARepeatedPromise, "",
        "a follower that had promised the epoch before counts for it once more";
    CountsAMoreRecentFollower, "",
        "a leader takes a follower whose history is more recent than its own into its quorum";
    VotesByZxidAlone, "1082",
        "votes are ordered by zxid without regard to the epoch";
    FollowersKeepTheVoteOfTheElection, "1732 1805 1818",
        "a follower tells joiners the epoch from before its leader's, and they never agree";

    // BROADCAST.
    CountsItsOwnAckUnsynced, "",
        "a leader counts its own copy before it is on disk";
    PassesBarriersAlone, "2136",
        "a sync is answered without asking a quorum whether this leader still leads";
    LeadsOnWithoutAQuorum, "",
        "a leader that has lost its followers does not step down";
}

#[cfg(zab_mutants)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// For this thread, until the next call.
#[cfg(zab_mutants)]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

#[cfg(zab_mutants)]
pub(crate) fn planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

#[cfg(not(zab_mutants))]
#[inline(always)]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}
