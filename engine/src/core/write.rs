//! One write, from its bytes to its txn: decode, judge, txn.
//! Not here: the checks (`validate`), multis (`multi`), closing sessions (`close`), what the reply says (`answer`).

use super::answer::answer;
use super::owner::Origin;
use super::quota::Charge;
use super::validate::Judge;
use super::{Core, Space};
use crate::model::{ErrorCode, Identity, SessionId, Xid};
use crate::ring::After;
use crate::wire::{Malformed, OpCode, Request, TxnBody, TxnHeader, reply};
use crate::world::{Known, TxnResult};

/// Where a reply goes, and whose request it is.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub from: Origin,
    pub session: SessionId,
    pub xid: Xid,
}

impl Core {
    pub(super) fn write(&mut self, asker: Asker, op: i32, record: &[u8], ids: &[Identity]) {
        let Some(op) = OpCode::from_i32(op).filter(|op| op.is_write()) else {
            return self.refuse_op(asker);
        };
        if self.refuses(op, record.len()) {
            return self.refuse(asker);
        }
        match Request::decode(op, record) {
            Ok(Request::CloseSession) => self.begin_close(asker),
            Ok(Request::Multi(ops)) => self.multi(asker, &ops, ids),
            Ok(request) => match self.judge_write(&request, ids) {
                Ok((body, known)) => {
                    // Frames are bounded; only a request near that bound can make a txn beyond its own, or one whose
                    // ACL says `auth`, which stands for many ids.
                    let long = record.len().max(acl_bytes(&body));
                    if long > self.settings.entry_bytes_max / 4 && self.would_be_too_large(&body) {
                        return self.fail(asker, ErrorCode::MarshallingError);
                    }
                    let (header, result) = self.execute_known(asker.session, asker.xid, &body, known);
                    self.answer(asker, &header, &body, &result);
                }
                Err(code) => self.fail(asker, code),
            },
            Err(Malformed::NullTtlPath) if !self.settings.extended_types => {
                self.fail(asker, ErrorCode::Unimplemented);
            }
            Err(malformed) if malformed.takes_zxid(op) => {
                self.fail(asker, ErrorCode::MarshallingError);
            }
            Err(_) => self.refuse_undecodable(asker),
        }
    }

    /// Workers hand over nothing but writes; a createSession in mid-connection would be answered like this. A
    /// learner may send what it likes: its request becomes a txn all the same, or its client would wait for ever.
    pub(super) fn refuse_op(&mut self, asker: Asker) {
        let Origin::Here(from) = asker.from else {
            return self.fail(asker, ErrorCode::Unimplemented);
        };
        self.open.reply(from, self.head.zxid(), asker.xid, After::Close, |out| {
            reply::frame_bare(out, asker.xid, reply::ZXID_NONE, ErrorCode::Unimplemented);
        });
    }

    /// For want of room. A learner's request becomes a txn all the same, which is short; a leader whose log has no room
    /// even for that steps down.
    fn refuse(&mut self, asker: Asker) {
        let Origin::Here(from) = asker.from else {
            return self.fail(asker, ErrorCode::NotReadOnly);
        };
        self.open.bare(from, self.head.zxid(), asker.xid, ErrorCode::NotReadOnly, After::Keep);
        self.open.loosen();
    }

    /// In its place in the order, but without a zxid, unless it is a learner's.
    fn refuse_undecodable(&mut self, asker: Asker) {
        let Origin::Here(from) = asker.from else {
            return self.fail(asker, ErrorCode::MarshallingError);
        };
        self.open.bare(from, self.head.zxid(), asker.xid, ErrorCode::MarshallingError, After::Keep);
    }

    /// A full disk is a state and no end: deletes and closes go on, everything else gets -119. Memory that is nearly
    /// full is another.
    fn refuses(&self, op: OpCode, bytes: usize) -> bool {
        match op {
            OpCode::CloseSession => self.space() >= Space::Full,
            OpCode::Delete | OpCode::DeleteContainer => self.space() >= Space::Floor,
            _ => self.space() >= Space::Reserve || !self.head.holds(bytes),
        }
    }

    /// A rejected write: an error txn, and its code as the answer.
    pub(super) fn fail(&mut self, asker: Asker, code: ErrorCode) {
        let body = TxnBody::Error { code: code.to_wire() };
        let (header, result) = self.execute(asker.session, asker.xid, &body);
        self.answer(asker, &header, &body, &result);
    }

    fn would_be_too_large(&mut self, body: &TxnBody<'_>) -> bool {
        let header = self.header(SessionId::NONE, Xid(0), body);
        self.encode(&header, body);
        self.is_too_large()
    }

    fn judge_write<'a>(
        &self,
        request: &Request<'a>,
        ids: &[Identity],
    ) -> Result<(TxnBody<'a>, Known), ErrorCode> {
        let judge = self.judge(ids);
        let charge = |path: &str| Charge::of(&self.head, &self.settings, path);
        match request {
            Request::Create(create) => judge
                .create(create, &Charge::of_create(&self.head, &self.settings, create))
                .map(|(create, known)| (TxnBody::Create(create), known)),
            Request::Delete { path, version } => {
                let known = judge.delete(path, *version)?;
                Ok((TxnBody::Delete { path: path.clone() }, known))
            }
            Request::DeleteContainer { path } => {
                let known = judge.delete_container(path)?;
                Ok((TxnBody::DeleteContainer { path: path.clone() }, known))
            }
            Request::SetData { path, data, version } => {
                let (version, known) = judge.set_data(path, *data, *version, &charge(path))?;
                let data = data.map(Into::into);
                Ok((TxnBody::SetData { path: path.clone(), data, version }, known))
            }
            Request::SetAcl { path, acl, version } => {
                let (acl, version, known) = judge.set_acl(path, acl, *version)?;
                Ok((TxnBody::SetAcl { path: path.clone(), acl, version }, known))
            }
            // A standalone server has no membership to change.
            Request::Reconfig(_) if self.settings.reconfig_enabled => Err(ErrorCode::Unimplemented),
            Request::Reconfig(_) => Err(ErrorCode::ReconfigDisabled),
            _ => unreachable!("decoding a write gives a write"),
        }
    }

    pub(super) fn judge<'h>(&'h self, ids: &'h [Identity]) -> Judge<'h> {
        Judge { head: &self.head, settings: &self.settings, ids }
    }

    /// The reply, if the one who asked is ours; a learner's client is answered by its learner.
    pub(super) fn answer(
        &mut self,
        asker: Asker,
        header: &TxnHeader,
        body: &TxnBody<'_>,
        result: &TxnResult,
    ) {
        if let Origin::Here(from) = asker.from {
            self.open
                .reply(from, header.zxid, asker.xid, After::Keep, |out| answer(header, body, result, out));
        }
    }
}

fn acl_bytes(body: &TxnBody<'_>) -> usize {
    match body {
        TxnBody::Create(create) => create.acl.bytes().len(),
        TxnBody::SetAcl { acl, .. } => acl.bytes().len(),
        _ => 0,
    }
}
