//! One write, from its bytes to its reply: decode, judge, txn, answer.
//! Not here: the checks (`validate`), multis (`multi`), closing sessions (`close`).

use super::quota::Charge;
use super::validate::Judge;
use super::{Core, Space};
use crate::model::{ErrorCode, Identity, SessionId, Stat, Xid};
use crate::ring::{After, ConnRef};
use crate::wire::{JutePut, Malformed, OpCode, Request, TxnBody, reply};
use crate::world::{Known, TxnReply, TxnResult};
use ostler_replication::{Broadcast, Zxid};

/// Where a reply goes.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub from: ConnRef,
    pub session: SessionId,
    pub xid: Xid,
}

impl<B: Broadcast> Core<B> {
    pub(super) fn write(
        &mut self,
        from: ConnRef,
        session: SessionId,
        xid: Xid,
        op: i32,
        record: &[u8],
        ids: &[Identity],
    ) {
        let asker = Asker { from, session, xid };
        let Some(op) = OpCode::from_i32(op).filter(|op| op.is_write()) else {
            // Workers hand over nothing else; a createSession in mid-connection (H11) would be answered like this.
            let at = self.head.zxid();
            self.open.reply(from, at, xid, After::Close, |out| {
                reply::frame_bare(out, xid, reply::ZXID_NONE, ErrorCode::Unimplemented);
            });
            return;
        };
        if self.refuses(op, record.len()) {
            self.open.bare(from, self.head.zxid(), xid, ErrorCode::NotReadOnly, After::Keep);
            self.open.loosen();
            return;
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
                    let (zxid, result) = self.execute_known(session, xid, &body, known);
                    self.answer(asker, zxid, &body, &result);
                }
                Err(code) => self.fail(asker, code),
            },
            Err(Malformed::NullTtlPath) if !self.settings.extended_types => {
                self.fail(asker, ErrorCode::Unimplemented);
            }
            Err(malformed) if malformed.takes_zxid(op) => {
                self.fail(asker, ErrorCode::MarshallingError);
            }
            // In its place in the order, but without a zxid (H2).
            Err(_) => self.open.bare(from, self.head.zxid(), xid, ErrorCode::MarshallingError, After::Keep),
        }
    }

    /// A full disk: see design.md, "A full disk is a state". Memory that is nearly full is another.
    fn refuses(&self, op: OpCode, bytes: usize) -> bool {
        match op {
            OpCode::CloseSession => self.space() >= Space::Full,
            OpCode::Delete | OpCode::DeleteContainer => self.space() >= Space::Floor,
            _ => self.space() >= Space::Reserve || !self.head.holds(bytes),
        }
    }

    /// A rejected write: an error txn, and its code as the answer.
    pub(super) fn fail(&mut self, asker: Asker, code: ErrorCode) {
        let (zxid, _) = self.execute(asker.session, asker.xid, &TxnBody::Error { code: code.to_wire() });
        self.open.bare(asker.from, zxid, asker.xid, code, After::Keep);
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

    fn answer(&mut self, asker: Asker, zxid: Zxid, body: &TxnBody<'_>, result: &TxnResult) {
        let Asker { from, xid, .. } = asker;
        let stat = match &result.reply {
            TxnReply::Stat(stat) | TxnReply::Created(stat) => Some(stat),
            _ => None,
        };
        match (body, stat) {
            (TxnBody::Create(create), Some(stat)) => {
                let create2 = wants_stat(create.kind).then_some(stat);
                self.open.reply(from, zxid, xid, After::Keep, |out| {
                    reply::frame_reply(out, xid, zxid, ErrorCode::Ok, |out| {
                        put_created(out, &create.path, create2)
                    });
                });
            }
            (TxnBody::SetData { .. } | TxnBody::SetAcl { .. }, Some(stat)) => {
                self.open.reply(from, zxid, xid, After::Keep, |out| reply::frame_stat(out, xid, zxid, stat));
            }
            (TxnBody::Delete { .. } | TxnBody::DeleteContainer { .. }, _) => {
                self.open.bare(from, zxid, xid, ErrorCode::Ok, After::Keep);
            }
            _ => unreachable!("what was judged applies: {result:?}"),
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

fn wants_stat(kind: crate::wire::CreateKind) -> bool {
    !matches!(kind, crate::wire::CreateKind::Plain { create2: false, .. })
}

fn put_created(out: &mut Vec<u8>, path: &str, stat: Option<&Stat>) {
    out.put_string(path);
    if let Some(stat) = stat {
        out.put_stat(stat);
    }
}
