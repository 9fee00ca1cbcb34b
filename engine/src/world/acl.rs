//! Interning of ACLs by their encoded bytes. Ids are counted by the records that name them and retired when none does.
//! Not here: what an ACL permits (model::acl), the readers' table (table).

use super::record::AclId;
use super::table::{AclList, Unpublished};
use super::view::Shared;
use crate::model::acl::Networks;
use crate::wire::AclBytes;
use std::collections::BTreeMap;

/// The writer's side of the ACL table.
pub(super) struct AclWriter {
    ids: BTreeMap<Box<[u8]>, AclId>,
    /// By id: records that name it, and whether a retirement is under way.
    uses: Vec<Uses>,
    free: Vec<AclId>,
}

#[derive(Clone, Copy, Default)]
struct Uses {
    records: u64,
    retiring: bool,
}

impl AclWriter {
    pub(super) fn new(shared: &Shared) -> AclWriter {
        let mut writer = AclWriter { ids: BTreeMap::new(), uses: Vec::new(), free: Vec::new() };
        let open = writer.intern(shared, &AclBytes::OPEN);
        assert_eq!(open, AclId::OPEN);
        // Never retired.
        writer.acquire(open);
        writer
    }

    /// The id of an ACL; a new one counts no records yet.
    pub(super) fn intern(&mut self, shared: &Shared, acl: &AclBytes<'_>) -> AclId {
        if acl.is_open() && !self.uses.is_empty() {
            return AclId::OPEN;
        }
        if let Some(id) = self.ids.get(acl.bytes()) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.uses.push(Uses::default());
            AclId(self.uses.len() as u32 - 1)
        });
        let bytes: Box<[u8]> = acl.bytes().into();
        self.ids.insert(bytes.clone(), id);
        let list = acl.decode().into_boxed_slice();
        let networks = Networks::of(&list);
        shared.acls.publish(id, Box::new(AclList { bytes, list, networks, is_open: acl.is_open() }));
        id
    }

    pub(super) fn acquire(&mut self, id: AclId) {
        self.uses[id.0 as usize].records += 1;
    }

    /// True when the caller is to see to the id's retirement: one record less, and it was the last.
    #[must_use]
    pub(super) fn release(&mut self, id: AclId) -> bool {
        let uses = &mut self.uses[id.0 as usize];
        uses.records -= 1;
        uses.records == 0 && !std::mem::replace(&mut uses.retiring, true)
    }

    /// Takes an id that is still without records out of the readers' sight. The id may be given out again when the
    /// entry may be dropped: `recycle`.
    pub(super) fn retire(&mut self, shared: &Shared, id: AclId) -> Option<Unpublished> {
        let uses = &mut self.uses[id.0 as usize];
        uses.retiring = false;
        if uses.records > 0 {
            return None;
        }
        let entry = shared.acls.get(id).expect("an id that is retired is published");
        self.ids.remove(&entry.bytes);
        Some(shared.acls.unpublish(id))
    }

    pub(super) fn recycle(&mut self, id: AclId) {
        self.free.push(id);
    }

    /// ACLs in the table, the open one included.
    pub(super) fn count(&self) -> usize {
        self.ids.len()
    }
}
