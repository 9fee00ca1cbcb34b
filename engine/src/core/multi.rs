//! multi: operations judged in order, each against what the earlier ones would leave, then one txn for all.
//!
//! Each operation is applied to the open batch as soon as it is judged; if one fails, all are taken back, so that names
//! and versions of a failed multi are given back.

use super::Core;
use super::quota::Charge;
use super::write::Asker;
use crate::model::{ErrorCode, Identity};
use crate::wire::request::MultiOp;
use crate::wire::{SubTxn, TxnBody};
use crate::world::{TxnReply, TxnResult};

/// The operations before the one that failed, and its code.
type Failed<'a> = (Vec<SubTxn<'a>>, ErrorCode);

impl Core {
    pub(super) fn multi(&mut self, asker: Asker, ops: &[MultiOp<'_>], ids: &[Identity]) {
        let savepoint = self.head.savepoint();
        let mark = self.open.changes.mark();
        let applied = self.apply_parts(asker, ops, ids);
        let (body, results) = match applied {
            Ok((subs, results)) => (TxnBody::Multi(subs), results),
            Err((good, code)) => {
                self.head.rollback(savepoint);
                self.open.changes.truncate(mark);
                // A null id in an ACL fails the request, not only its operation: Apache trips over it.
                if code == ErrorCode::MarshallingError {
                    return self.fail(asker, code);
                }
                return self.fail_multi(asker, good, code, ops.len());
            }
        };
        let header = self.header(asker.session, asker.xid, &body);
        self.encode(&header, &body);
        if !self.is_too_large() && !self.is_crowded() {
            self.head.finish_parts(&header);
            self.push_encoded(header.zxid, &body);
            let result = TxnResult { error: 0, reply: TxnReply::Multi(results) };
            return self.answer(asker, &header, &body, &result);
        }
        self.head.rollback(savepoint);
        self.open.changes.truncate(mark);
        if self.is_too_large() {
            return self.fail(asker, ErrorCode::MarshallingError);
        }
        // It does not fit behind what the open batch has: there again, from the start of the next one.
        let (header, result) = self.execute(asker.session, asker.xid, &body);
        self.answer(asker, &header, &body, &result);
    }

    /// Judges and applies one operation after the other.
    fn apply_parts<'a>(
        &mut self,
        asker: Asker,
        ops: &[MultiOp<'a>],
        ids: &[Identity],
    ) -> Result<(Vec<SubTxn<'a>>, Vec<TxnResult>), Failed<'a>> {
        // Quotas are held against the usage at the start, as Apache's are.
        let charges: Vec<Charge> = ops.iter().map(|op| self.charge_of(op)).collect();
        let header = self.header(asker.session, asker.xid, &TxnBody::Multi(Vec::new()));
        self.head.begin_parts(ops.iter().filter(|op| matches!(op, MultiOp::Create(_))).count());
        let mut subs = Vec::with_capacity(ops.len());
        let mut results = Vec::with_capacity(ops.len());
        for (op, charge) in ops.iter().zip(&charges) {
            match self.judge_sub(op, ids, charge) {
                Ok(sub) => {
                    results.push(self.head.apply_part(&header, &sub, &mut self.open.changes));
                    subs.push(sub);
                }
                Err(code) => return Err((subs, code)),
            }
        }
        Ok((subs, results))
    }

    fn charge_of(&self, op: &MultiOp<'_>) -> Charge {
        let of = |path| Charge::of(&self.head, &self.settings, path);
        match op {
            MultiOp::Create(create) => Charge::of_create(&self.head, &self.settings, create),
            MultiOp::Delete { path, .. } | MultiOp::SetData { path, .. } | MultiOp::Check { path, .. } => {
                of(path)
            }
        }
    }

    fn judge_sub<'a>(
        &self,
        op: &MultiOp<'a>,
        ids: &[Identity],
        charge: &Charge,
    ) -> Result<SubTxn<'a>, ErrorCode> {
        let judge = self.judge(ids);
        match op {
            MultiOp::Create(create) => judge.create(create, charge).map(|(create, _)| SubTxn::Create(create)),
            MultiOp::Delete { path, version } => {
                judge.delete(path, *version)?;
                Ok(SubTxn::Delete { path: path.clone() })
            }
            MultiOp::SetData { path, data, version } => {
                let (version, _) = judge.set_data(path, *data, *version, charge)?;
                Ok(SubTxn::SetData { path: path.clone(), data: data.map(Into::into), version })
            }
            MultiOp::Check { path, version } => {
                let version = judge.check(path, *version)?;
                Ok(SubTxn::Check { path: path.clone(), version })
            }
        }
    }

    /// The txn keeps the operations before the failed one, as Apache's does; any error in it means that none counts.
    fn fail_multi(&mut self, asker: Asker, good: Vec<SubTxn<'_>>, code: ErrorCode, ops: usize) {
        let mut subs = good;
        subs.push(SubTxn::error(code.to_wire()));
        subs.resize(ops, SubTxn::error(ErrorCode::RuntimeInconsistency.to_wire()));
        let body = TxnBody::Multi(subs);
        let (header, result) = self.execute(asker.session, asker.xid, &body);
        self.answer(asker, &header, &body, &result);
    }
}
