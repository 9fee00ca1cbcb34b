//! A znode's Stat, as stored and as clients see it.

use super::{Owner, WallMillis};
use ostler_replication::Zxid;

/// What snapshots store for a znode: 60 bytes. `cversion` counts creates only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatPersisted {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub ctime: WallMillis,
    pub mtime: WallMillis,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub owner: Owner,
    pub pzxid: Zxid,
}

/// What clients see: 68 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub ctime: WallMillis,
    pub mtime: WallMillis,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: Zxid,
}

impl StatPersisted {
    pub fn created(zxid: Zxid, time: WallMillis, owner: Owner) -> StatPersisted {
        StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            ctime: time,
            mtime: time,
            version: 0,
            cversion: 0,
            aversion: 0,
            owner,
            pzxid: zxid,
        }
    }

    /// The client's view. Clients expect cversion to count creates and deletes; we store creates only.
    pub fn to_wire(&self, data_length: usize, num_children: usize) -> Stat {
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.cversion.wrapping_mul(2).wrapping_sub(num_children as i32),
            aversion: self.aversion,
            ephemeral_owner: self.owner.to_wire(),
            data_length: data_length as i32,
            num_children: num_children as i32,
            pzxid: self.pzxid,
        }
    }
}
