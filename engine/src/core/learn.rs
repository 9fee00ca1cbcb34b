//! A follower's or observer's core: clients' writes, syncs and sessions go to the leader, and what comes back committed is
//! applied and told.
//! Not here: logging and acknowledging proposals (the broadcast), what a leader makes of requests (`lead`, `write`).
//!
//! **Who is answered by a txn.** Session and cxid do not name a request: some clients count from 0 again with each
//! connection, and the opening of a session and its end by expiry both carry 0. A leader makes its txns in the order in
//! which a learner asked, one for each request; so a txn answers the request that has been under way longest, or is none of
//! ours. It does if session and cxid agree, if it is of a type that the request can become, and if its zxid is above all
//! that had come when the request was sent. What the same session asked through another server, and what may be on its way to
//! us still, bears the same session and maybe the same cxid: so a client that comes with its session is let in only when a
//! sync behind the leader's word has passed. All that was asked elsewhere before is committed and told by then, and all that
//! comes later is refused, for the session is ours.
//!
//! **Order.** Whatever a connection asks is answered in its order: what is decided here stands in the same line as what the
//! leader decides, and waits for what the line has before it. Without anything under way it does not wait.
//!
//! **Batches.** What one turn brings is one batch, sealed and told as a whole. It ends early where it is long, and before a
//! txn whose request overtook a read on its way (`worker::overtake`): that read is served from the View between.

use super::answer::answer;
use super::owner::Owner;
use super::{Core, CoreOutput, Duty};
use crate::intake::{CoreRequest, Query};
use crate::model::{ErrorCode, Identity, SessionId, Xid, session};
use crate::ring::{After, ConnRef, News};
use crate::wire::{
    ConnectRequest, ConnectResponse, JutePut, Malformed, OpCode, Request, TxnBody, TxnDigest, TxnEntry,
    TxnHeader, reply,
};
use crate::world::{Room, TxnResult};
use ostler_replication::{Answer, Ask, Input, Proposal, SessionBits, Zxid};
use std::collections::VecDeque;

/// What a learner has to remember.
#[derive(Default)]
pub(super) struct Learning {
    /// What clients wait for, in the order in which they asked.
    under_way: VecDeque<UnderWay>,
    /// The bodies of the writes among them.
    forwarded_bytes: usize,
    /// Clients that have come with a session of theirs: the leader is asked about it.
    revalidating: VecDeque<Revalidating>,
    /// Sessions heard of in this turn.
    touched: Vec<(SessionBits, i32)>,
    /// Applied since the last batch was told, and the length of their entries.
    txns: usize,
    bytes: usize,
}

struct UnderWay {
    from: ConnRef,
    session: SessionId,
    xid: Xid,
    what: What,
}

enum What {
    /// `after`: what answers it comes later than this. `apart`: it must not share a batch with what was answered before.
    Write {
        op: OpCode,
        after: Zxid,
        apart: bool,
        bytes: usize,
    },
    Open {
        ask: ConnectRequest,
        timeout_ms: i32,
        after: Zxid,
    },
    Sync {
        path: Option<Box<[u8]>>,
    },
    /// A client's own session is ours now; it waits for the sync behind that.
    Attach {
        ask: ConnectRequest,
        timeout_ms: i32,
    },
    /// Decided here, and only waits for what was asked before.
    Error {
        code: ErrorCode,
        zxid: Option<Zxid>,
        then: After,
        apart: bool,
    },
    Ephemerals {
        prefix: Option<Box<str>>,
    },
}

struct Revalidating {
    from: ConnRef,
    ask: ConnectRequest,
    timeout_ms: i32,
}

impl Learning {
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
            && self.forwarded_bytes == 0
            && self.revalidating.is_empty()
            && self.touched.is_empty()
            && (self.txns, self.bytes) == (0, 0)
    }

    /// Requests that clients wait for.
    pub fn len(&self) -> usize {
        self.under_way.len() + self.revalidating.len()
    }

    pub fn forwarded_bytes(&self) -> usize {
        self.forwarded_bytes
    }

    /// The request that this txn answers, taken off the line.
    fn take_answered(&mut self, header: &TxnHeader) -> Option<UnderWay> {
        let first = self.under_way.front()?;
        let (op, after) = match &first.what {
            What::Write { op, after, .. } => (*op, *after),
            What::Open { after, .. } => (OpCode::CreateSession, *after),
            What::Sync { .. } | What::Attach { .. } | What::Error { .. } | What::Ephemerals { .. } => {
                return None;
            }
        };
        // A txn has the number of the operation that it comes from, unless that was rejected.
        let may_be = header.kind == op.to_i32() || header.kind == OpCode::Error.to_i32();
        let answers =
            may_be && header.session == first.session && header.cxid == first.xid && header.zxid > after;
        let answered = if answers { self.under_way.pop_front() } else { None };
        if let Some(UnderWay { what: What::Write { bytes, .. }, .. }) = &answered {
            self.forwarded_bytes -= bytes;
        }
        answered
    }
}

impl Core {
    pub(super) fn learn(&mut self) {
        self.duty = Duty::Learn;
        self.sessions.clear(false);
        for (id, timeout_ms) in self.head.sessions() {
            self.sessions.open(id, timeout_ms, Owner::Nobody, self.now.mono);
        }
    }

    pub(super) fn request_of_client(&mut self, request: CoreRequest) {
        match request {
            CoreRequest::Connect { from, ask } => self.connect_at_learner(from, ask),
            CoreRequest::Write { from, session, xid, op, body, ids, apart } => {
                if self.hears(from, session) {
                    self.forward_write((from, session, xid), op, body, &ids, apart);
                }
            }
            CoreRequest::Sync { from, session, xid, path } => {
                if self.hears(from, session) {
                    let mut body = Vec::new();
                    body.put_buffer(path.as_deref());
                    self.wait_for((from, session, xid), What::Sync { path });
                    self.forward(session, xid, OpCode::Sync, body, Some(&[]));
                }
            }
            CoreRequest::Query { from, xid, query: Query::Ephemerals { session, prefix } } => {
                if self.hears(from, session) {
                    self.wait_for((from, session, xid), What::Ephemerals { prefix });
                    self.answer_ready();
                }
            }
            CoreRequest::Touch(sessions) => sessions.into_iter().for_each(|session| self.heard(session)),
            // Nobody is asked to be silent here.
            CoreRequest::Silent { .. } => {}
            CoreRequest::Gone { from, session } => {
                self.sessions.gone(session, from);
            }
        }
    }

    /// Whether the request counts: its connection owns the session. If not, the connection is dropped.
    fn hears(&mut self, from: ConnRef, session: SessionId) -> bool {
        let counts = self.sessions.belongs_to(session, from);
        match counts {
            true => self.heard(session),
            false => self.open.quiet(from, self.head.zxid(), After::Drop),
        }
        counts
    }

    fn heard(&mut self, session: SessionId) {
        if let Some(timeout_ms) = self.sessions.note_heard(session, self.round) {
            self.learning.touched.push((SessionBits(session.0), timeout_ms));
        }
    }

    /// What cannot be decoded never leaves: it would make a leader of Apache's issue two proposals of one zxid, and stop
    /// its ensemble.
    fn forward_write(
        &mut self,
        asker: (ConnRef, SessionId, Xid),
        op: i32,
        body: Box<[u8]>,
        ids: &[Identity],
        apart: bool,
    ) {
        let Some(op) = OpCode::from_i32(op).filter(|op| op.is_write()) else {
            let (code, zxid) = (ErrorCode::Unimplemented, Some(reply::ZXID_NONE));
            return self.decide(asker, What::Error { code, zxid, then: After::Close, apart });
        };
        // Whatever is committed must be applied, so what would not find room here is not asked for.
        let removes = matches!(op, OpCode::CloseSession | OpCode::Delete | OpCode::DeleteContainer);
        let refusal = match Request::decode(op, &body) {
            Ok(_) if !removes && (self.room != Room::Ample || !self.head.holds(body.len())) => {
                Some(ErrorCode::NotReadOnly)
            }
            Err(malformed) if !is_whole(malformed) => Some(ErrorCode::MarshallingError),
            _ => None,
        };
        if let Some(code) = refusal {
            return self.decide(asker, What::Error { code, zxid: None, then: After::Keep, apart });
        }
        self.learning.forwarded_bytes += body.len();
        self.wait_for(asker, What::Write { op, after: self.received, apart, bytes: body.len() });
        self.forward(asker.1, asker.2, op, body.into(), Some(ids));
    }

    fn forward(
        &mut self,
        session: SessionId,
        xid: Xid,
        op: OpCode,
        body: Vec<u8>,
        identities: Option<&[Identity]>,
    ) {
        self.broadcast(Input::Ask(request(session, xid, op, body, identities)));
    }

    fn wait_for(&mut self, (from, session, xid): (ConnRef, SessionId, Xid), what: What) {
        self.learning.under_way.push_back(UnderWay { from, session, xid, what });
    }

    fn decide(&mut self, asker: (ConnRef, SessionId, Xid), what: What) {
        self.wait_for(asker, what);
        self.answer_ready();
    }

    fn connect_at_learner(&mut self, from: ConnRef, ask: ConnectRequest) {
        let timeout_ms = self.settings.negotiated(ask.timeout_ms);
        if ask.session != SessionId::NONE {
            if ask.password != Some(session::password(ask.session)) {
                return self.refuse_session(from, &ask);
            }
            // Whoever has it here is heard no more: behind the question it would be taken for the session's new owner, and
            // its client may have gone on elsewhere meanwhile.
            if let Some(before) = self.sessions.leave(ask.session).connection() {
                self.open.quiet(before, self.head.zxid(), After::Drop);
            }
            let session = SessionBits(ask.session.0);
            self.learning.revalidating.push_back(Revalidating { from, ask, timeout_ms });
            return self.broadcast(Input::Ask(Ask::Revalidate { session, timeout_ms }));
        }
        if self.room != Room::Ample {
            return self.open.quiet(from, self.head.zxid(), After::Close);
        }
        let id = self.sessions.fresh_id();
        self.wait_for((from, id, Xid(0)), What::Open { ask, timeout_ms, after: self.received });
        self.forward(id, Xid(0), OpCode::CreateSession, timeout_ms.to_be_bytes().into(), None);
    }

    fn refuse_session(&mut self, from: ConnRef, ask: &ConnectRequest) {
        let refused = ConnectResponse::refused(ask.read_only.map(|_| false));
        self.open.reply(from, self.head.zxid(), Xid(0), After::Close, |out| refused.encode(out));
    }

    /// The leader answers other than by a txn.
    pub(super) fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Synced => self.synced(),
            Answer::Revalidated { session, valid } => self.revalidated(SessionId(session.0), valid),
        }
    }

    /// A leader answers syncs in the order of all that was asked, so that the oldest request is one. If not, a later
    /// answer will do for it as well.
    fn synced(&mut self) {
        let Some(UnderWay { what: What::Sync { .. } | What::Attach { .. }, .. }) =
            self.learning.under_way.front()
        else {
            return;
        };
        let Some(UnderWay { from, session, xid, what }) = self.learning.under_way.pop_front() else { return };
        let zxid = self.head.zxid();
        let path = match what {
            What::Sync { path } => path,
            What::Attach { ask, timeout_ms } => {
                // Meanwhile it may have ended, or gone on to another connection.
                if self.sessions.belongs_to(session, from) {
                    self.established(from, &ask, session, timeout_ms, zxid);
                }
                return self.answer_ready();
            }
            _ => return,
        };
        self.open.reply(from, zxid, xid, After::Keep, |out| {
            reply::frame_reply(out, xid, zxid, ErrorCode::Ok, |out| out.put_buffer(path.as_deref()));
        });
        self.sessions.moved_on(session, self.open.number);
        self.answer_ready();
    }

    fn revalidated(&mut self, id: SessionId, valid: bool) {
        let waiting = &mut self.learning.revalidating;
        let Some(at) = waiting.iter().position(|waiting| waiting.ask.session == id) else { return };
        let Some(Revalidating { from, ask, timeout_ms }) = waiting.remove(at) else { return };
        if !valid {
            return self.refuse_session(from, &ask);
        }
        if waiting.iter().any(|later| later.ask.session == id) {
            // The same holds for it: its client has come again.
            return self.open.quiet(from, self.head.zxid(), After::Close);
        }
        if !self.sessions.is_known(id) {
            // Its createSession is on its way to us still.
            self.sessions.open(id, timeout_ms, Owner::Nobody, self.now.mono);
        }
        self.sessions.move_to(id, Owner::here(from), timeout_ms, self.now.mono);
        self.wait_for((from, id, Xid(0)), What::Attach { ask, timeout_ms });
        let mut body = Vec::new();
        body.put_buffer(Some(b"/"));
        self.learners.tell(Input::Ask(request(id, Xid(0), OpCode::Sync, body, Some(&[]))));
    }

    /// Applies what is committed.
    pub(super) fn deliver(&mut self, proposal: &Proposal) {
        assert_ne!(self.duty, Duty::Lead, "a leader has applied what it proposed");
        self.received = self.received.max(proposal.last);
        for bytes in proposal.entries() {
            match TxnEntry::decode(bytes) {
                Ok((entry, _)) => self.deliver_entry(&entry, bytes.len()),
                Err(malformed) => {
                    let reason = format!(
                        "a txn between {} and {} is committed that this server cannot read ({malformed:?})",
                        proposal.first, proposal.last
                    );
                    return self.outputs.push_back(CoreOutput::Stop(reason));
                }
            }
        }
    }

    fn deliver_entry(&mut self, entry: &TxnEntry<'_>, bytes: usize) {
        let TxnEntry { header, body, digest } = entry;
        let answered = self.learning.take_answered(header);
        let is_apart = matches!(&answered, Some(UnderWay { what: What::Write { apart: true, .. }, session, .. })
            if self.sessions.is_answered_in(*session, self.open.number));
        let is_long = self.learning.txns >= self.settings.batch_txns_max
            || self.learning.bytes.max(self.open.bytes()) >= self.settings.batch_bytes_enough();
        if is_apart || is_long {
            self.end_delivery();
        }
        let result = self.head.apply(header, body, &mut self.open.changes);
        self.learning.txns += 1;
        self.learning.bytes += bytes;
        self.compare_digest(header.zxid, *digest);
        if self.duty == Duty::Learn {
            self.note_session(header, body, answered.as_ref());
        }
        if let Some(answered) = answered {
            self.answer_client(answered, header, body, &result);
            self.answer_ready();
        }
    }

    /// A session's opening and end, whoever asked for it.
    fn note_session(&mut self, header: &TxnHeader, body: &TxnBody<'_>, answered: Option<&UnderWay>) {
        let from = answered.map(|answered| answered.from);
        match body {
            TxnBody::CreateSession { timeout_ms } => {
                let owner = from.map_or(Owner::Nobody, Owner::here);
                self.sessions.note_opened(header.session, *timeout_ms, owner, self.now.mono);
            }
            TxnBody::CloseSession { .. } => {
                let owner = self.sessions.remove(header.session);
                if let Some(owner) = owner.filter(|owner| Some(*owner) != from) {
                    self.open.quiet(owner, header.zxid, After::Drop);
                }
            }
            _ => {}
        }
    }

    fn answer_client(
        &mut self,
        answered: UnderWay,
        header: &TxnHeader,
        body: &TxnBody<'_>,
        result: &TxnResult,
    ) {
        let UnderWay { from, session, what, .. } = answered;
        let zxid = header.zxid;
        match (what, body) {
            (What::Open { ask, timeout_ms, .. }, TxnBody::CreateSession { .. }) => {
                self.established(from, &ask, session, timeout_ms, zxid);
            }
            // A handshake has no error code; the client tries elsewhere, or again.
            (What::Open { .. }, _) => self.open.quiet(from, zxid, After::Close),
            // It is another server's now, and this connection's client has gone there.
            (_, TxnBody::Error { code }) if *code == ErrorCode::SessionMoved.to_wire() => {
                self.open.quiet(from, zxid, After::Drop);
            }
            _ => {
                let is_end = matches!(body, TxnBody::CloseSession { .. });
                let then = if is_end { After::Close } else { After::Keep };
                self.open.reply(from, zxid, header.cxid, then, |out| answer(header, body, result, out));
            }
        }
        self.sessions.moved_on(session, self.open.number);
    }

    /// Answers what was decided here and waits for nothing any more.
    fn answer_ready(&mut self) {
        while let Some(first) = self.learning.under_way.front() {
            let apart = match &first.what {
                What::Error { apart, .. } => *apart,
                What::Ephemerals { .. } => false,
                What::Write { .. } | What::Open { .. } | What::Sync { .. } | What::Attach { .. } => break,
            };
            if apart && self.sessions.is_answered_in(first.session, self.open.number) {
                self.end_delivery();
            }
            let Some(UnderWay { from, session, xid, what }) = self.learning.under_way.pop_front() else {
                break;
            };
            match what {
                What::Error { code, zxid, then, .. } => {
                    let at = self.head.zxid();
                    self.open.reply(from, at, xid, then, |out| {
                        reply::frame_bare(out, xid, zxid.unwrap_or(at), code);
                    });
                }
                What::Ephemerals { prefix } => self.list_ephemerals(from, session, xid, prefix.as_deref()),
                _ => unreachable!("seen a moment ago"),
            }
            self.sessions.moved_on(session, self.open.number);
        }
    }

    /// Ends a batch of a server that does not lead: what was applied is committed, so it is shown at once.
    pub(super) fn end_delivery(&mut self) {
        if self.duty == Duty::Lead || self.learning.txns == 0 && self.open.is_blank() {
            return;
        }
        let (txns, bytes) =
            (std::mem::take(&mut self.learning.txns), std::mem::take(&mut self.learning.bytes));
        if txns > 0 {
            self.view = self.head.seal();
            self.head.committed(self.view.zxid());
            self.snapshots.logged(txns, bytes);
        }
        let batch = self.open.take_batch();
        self.publish(News::Batch(batch));
    }

    /// What a learner's turn ends with.
    pub(super) fn end_learners_turn(&mut self) {
        self.end_delivery();
        self.round += 1;
        if !self.learning.touched.is_empty() {
            let touched = std::mem::take(&mut self.learning.touched);
            self.broadcast(Input::Touched(touched));
        }
    }

    /// Every txn says what the tree's digest was with it.
    fn compare_digest(&mut self, zxid: Zxid, digest: Option<TxnDigest>) {
        if !self.settings.digest {
            return;
        }
        if let Some(TxnDigest { version: TxnDigest::VERSION, tree }) = digest
            && tree != self.head.digest()
        {
            self.digest_mismatches += 1;
            self.digest_differs_at = Some(zxid);
        }
        self.remember_digest(zxid);
    }
}

fn request(session: SessionId, xid: Xid, op: OpCode, body: Vec<u8>, identities: Option<&[Identity]>) -> Ask {
    let pair = |identity: &Identity| (identity.scheme.to_string(), identity.id.to_string());
    let identities = identities.map(|identities| identities.iter().map(pair).collect());
    Ask::Request { session: SessionBits(session.0), cxid: xid.0, op: op.to_i32(), body, identities }
}

/// Whole as bytes, and wrong only in what it says: a leader makes an error txn of it.
fn is_whole(malformed: Malformed) -> bool {
    matches!(malformed, Malformed::Null | Malformed::NullTtlPath | Malformed::Disallowed)
}
