//! Access control lists: what they permit, how a client's list becomes the stored one, and what getACL hides of it.
//! Not here: schemes (`auth`), encoding (`wire::txn::AclBytes`), and where ACLs are kept (`world`).

use super::ErrorCode;
use super::auth::{Network, Schemes};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Permission bits (ZooDefs).
pub mod perms {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// Who: an authentication scheme and that scheme's name for somebody.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    pub scheme: Box<str>,
    pub id: Box<str>,
}

impl Identity {
    pub fn new(scheme: &str, id: &str) -> Identity {
        Identity { scheme: scheme.into(), id: id.into() }
    }

    /// Passes every check.
    pub fn is_super(&self) -> bool {
        &*self.scheme == "super"
    }
}

/// One entry: what `id` may do. `perms` is stored as sent, unmasked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Acl {
    pub perms: i32,
    pub id: Identity,
}

impl Acl {
    pub fn new(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Identity::new(scheme, id) }
    }

    fn is_network(&self) -> bool {
        &*self.id.scheme == "ip"
    }

    fn is_anyone(&self) -> bool {
        &*self.id.scheme == "world" && &*self.id.id == "anyone"
    }
}

/// An ACL entry as a client sent it: either string may be null.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AclEntry<'a> {
    pub perms: i32,
    pub scheme: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
}

impl AclEntry<'_> {
    /// Nulls become empty strings, which match nobody.
    pub fn to_acl(&self) -> Acl {
        Acl::new(
            self.perms,
            self.scheme.as_deref().unwrap_or_default(),
            self.id.as_deref().unwrap_or_default(),
        )
    }
}

/// The networks of an ACL's `ip` entries, in the order of its entries; empty when it has none. Parsed once, for a list
/// may name tens of thousands and is looked at with each read.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Networks(Box<[Option<Network>]>);

impl Networks {
    pub fn of(acl: &[Acl]) -> Networks {
        if !acl.iter().any(Acl::is_network) {
            return Networks::default();
        }
        let network = |entry: &Acl| entry.is_network().then(|| Network::parse(&entry.id.id))?;
        Networks(acl.iter().map(network).collect())
    }
}

/// Whether `acl`, whose networks these are, lets somebody with these ids do any of `wanted`. An
/// empty or null list permits all. The caller has asked `AclBytes::is_open` first where that is cheap.
pub fn permits(acl: &[Acl], networks: &Networks, wanted: i32, ids: &[Identity], schemes: &Schemes) -> bool {
    if schemes.skip_acl || acl.is_empty() || ids.iter().any(Identity::is_super) {
        return true;
    }
    let mut asked = acl.iter().enumerate().filter(|(_, entry)| entry.perms & wanted != 0);
    if networks.0.is_empty() {
        return asked.any(|(_, entry)| {
            entry.is_anyone()
                || ids.iter().any(|id| id.scheme == entry.id.scheme && schemes.matches(id, &entry.id.id))
        });
    }
    let addresses = ids.iter().filter(|id| &*id.scheme == "ip").filter_map(|id| Network::parse(&id.id));
    let addresses: Vec<Network> = addresses.collect();
    asked.any(|(at, entry)| match &networks.0[at] {
        Some(network) => addresses.iter().any(|address| network.contains(address)),
        None if entry.is_network() => false,
        None => {
            entry.is_anyone()
                || ids.iter().any(|id| id.scheme == entry.id.scheme && schemes.matches(id, &entry.id.id))
        }
    })
}

/// Why a client's ACL cannot be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclRefusal {
    /// -114: no list, an unknown scheme, an id the scheme does not accept, `auth` without an authenticated id.
    Invalid,
    /// -5: an id is null where Apache's server looks into it.
    NullId,
    /// Expanding `auth` would exceed the bound: the txn could not be logged.
    TooLarge,
}

impl AclRefusal {
    /// The code to answer. For `TooLarge` there is none in Apache, whose server would have failed to log the txn.
    pub const fn error(self) -> ErrorCode {
        match self {
            AclRefusal::Invalid => ErrorCode::InvalidAcl,
            AclRefusal::NullId | AclRefusal::TooLarge => ErrorCode::MarshallingError,
        }
    }
}

/// The ACL to store for the one a client sent: duplicates dropped, `auth` replaced by the
/// connection's authenticated ids, everything else checked. `bytes_max` bounds the encoded result.
pub fn fix_up(
    sent: Option<&[AclEntry<'_>]>,
    ids: &[Identity],
    schemes: &Schemes,
    bytes_max: usize,
) -> Result<Vec<Acl>, AclRefusal> {
    let mut fixed = Vec::new();
    let mut bytes = 4;
    let mut push = |acl: Acl| {
        bytes += 12 + acl.id.scheme.len() + acl.id.id.len();
        fixed.push(acl);
        if bytes <= bytes_max { Ok(()) } else { Err(AclRefusal::TooLarge) }
    };
    let sent = sent.unwrap_or_default();
    if compares_null(sent) {
        return Err(AclRefusal::NullId);
    }
    for entry in distinct(sent) {
        match entry.scheme.as_deref() {
            None => return Err(AclRefusal::Invalid),
            Some("world") => match entry.id.as_deref() {
                None => return Err(AclRefusal::NullId),
                Some("anyone") => push(entry.to_acl())?,
                Some(_) => return Err(AclRefusal::Invalid),
            },
            Some("auth") => {
                let mut authenticated =
                    ids.iter().filter(|id| schemes.is_authenticated(&id.scheme)).peekable();
                authenticated.peek().ok_or(AclRefusal::Invalid)?;
                for id in authenticated {
                    push(Acl { perms: entry.perms, id: id.clone() })?;
                }
            }
            Some(scheme) if !schemes.offers(scheme) => return Err(AclRefusal::Invalid),
            Some(scheme) => match entry.id.as_deref() {
                None => return Err(AclRefusal::NullId),
                Some(id) if schemes.accepts(scheme, id) => push(entry.to_acl())?,
                Some(_) => return Err(AclRefusal::Invalid),
            },
        }
    }
    if fixed.is_empty() { Err(AclRefusal::Invalid) } else { Ok(fixed) }
}

/// Whether Apache's search for duplicates meets a null, which it does before it looks at any entry: an entry is compared
/// with each earlier one by perms, then by its scheme, then by its id.
fn compares_null(sent: &[AclEntry<'_>]) -> bool {
    if sent.iter().all(|entry| entry.scheme.is_some() && entry.id.is_some()) {
        return false;
    }
    let (mut perms, mut schemes) = (BTreeSet::new(), BTreeSet::new());
    sent.iter().any(|entry| {
        let scheme = (entry.perms, entry.scheme.as_deref());
        let meets = (entry.scheme.is_none() && perms.contains(&entry.perms))
            || (entry.id.is_none() && schemes.contains(&scheme));
        perms.insert(entry.perms);
        schemes.insert(scheme);
        meets
    })
}

/// Entries without exact duplicates, in order. A frame can hold tens of thousands, so no entry looks at all others.
fn distinct<'e, 'a>(sent: &'e [AclEntry<'a>]) -> impl Iterator<Item = &'e AclEntry<'a>> {
    let mut seen = BTreeSet::new();
    sent.iter().filter(move |entry| seen.insert((entry.perms, entry.scheme.as_deref(), entry.id.as_deref())))
}

/// An ACL as getACL shows it to somebody without ADMIN: of digest ids the hash is hidden, `bob:x`.
pub fn masked(acl: &[Acl]) -> Vec<Acl> {
    acl.iter()
        .map(|entry| match entry.id.id.split_once(':') {
            Some((user, _)) if &*entry.id.scheme == "digest" => {
                Acl::new(entry.perms, "digest", &format!("{user}:x"))
            }
            _ => entry.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perms::*;

    const LARGE: usize = 1 << 20;

    fn entry<'a>(perms: i32, scheme: Option<&'a str>, id: Option<&'a str>) -> AclEntry<'a> {
        AclEntry { perms, scheme: scheme.map(Cow::Borrowed), id: id.map(Cow::Borrowed) }
    }

    fn ids() -> Vec<Identity> {
        vec![Identity::new("ip", "10.0.0.7"), Identity::new("digest", "bob:h"), Identity::new("super", "")]
    }

    fn check(sent: &[(i32, &str, &str)], expected: Result<&[(i32, &str, &str)], AclRefusal>) {
        let sent: Vec<_> =
            sent.iter().map(|(perms, scheme, id)| entry(*perms, Some(scheme), Some(id))).collect();
        let expected: Result<Vec<_>, _> = expected
            .map(|list| list.iter().map(|(perms, scheme, id)| Acl::new(*perms, scheme, id)).collect());
        assert_eq!(fix_up(Some(&sent), &ids(), &Schemes::default(), LARGE), expected, "{sent:?}");
    }

    #[test]
    fn a_clients_list_becomes_the_stored_one() {
        let open: &[_] = &[(31, "world", "anyone")];
        check(open, Ok(open));
        check(&[open[0], open[0]], Ok(open));
        check(&[(1, "auth", "whoever"), open[0]], Ok(&[(1, "digest", "bob:h"), open[0]]));
        // Expansion comes after duplicates were dropped, so it can bring new ones.
        check(
            &[(1, "auth", ""), (1, "digest", "bob:h")],
            Ok(&[(1, "digest", "bob:h"), (1, "digest", "bob:h")]),
        );
        check(
            &[(255, "ip", "10.0.0.0/8"), (0, "digest", "a:b")],
            Ok(&[(255, "ip", "10.0.0.0/8"), (0, "digest", "a:b")]),
        );
        check(&[], Err(AclRefusal::Invalid));
        for (scheme, id) in
            [("world", "all"), ("super", ""), ("sasl", "bob"), ("digest", "bob"), ("ip", "x"), ("", "")]
        {
            check(&[(31, scheme, id)], Err(AclRefusal::Invalid));
        }
    }

    #[test]
    fn nulls_and_bounds() {
        let outcome =
            |sent: Option<&[AclEntry<'_>]>, max| fix_up(sent, &ids(), &Schemes::default(), max).unwrap_err();
        assert_eq!(outcome(None, LARGE), AclRefusal::Invalid);
        assert_eq!(outcome(Some(&[entry(1, None, Some("anyone"))]), LARGE), AclRefusal::Invalid);
        for scheme in ["world", "digest", "ip"] {
            assert_eq!(outcome(Some(&[entry(1, Some(scheme), None)]), LARGE), AclRefusal::NullId);
            // Compared with an earlier entry, null trips Apache before anything else is looked at.
            let first = |perms| entry(perms, Some(scheme), Some("not:valid:here"));
            assert_eq!(outcome(Some(&[first(1), entry(1, Some(scheme), None)]), LARGE), AclRefusal::NullId);
            assert_eq!(outcome(Some(&[first(1), entry(1, None, Some("x"))]), LARGE), AclRefusal::NullId);
            assert_eq!(outcome(Some(&[first(2), entry(1, None, Some("x"))]), LARGE), AclRefusal::Invalid);
        }
        assert_eq!(outcome(Some(&[entry(1, Some("sasl"), None)]), LARGE), AclRefusal::Invalid);
        let many: Vec<_> = (0..1000).map(|perms| entry(perms, Some("auth"), None)).collect();
        assert_eq!(outcome(Some(&many), 1000), AclRefusal::TooLarge);
        let anonymous = fix_up(Some(&many), &ids()[..1], &Schemes::default(), LARGE);
        assert_eq!(anonymous, Err(AclRefusal::Invalid));
    }

    fn check_permits(acl: &[Acl], wanted: i32, ids: &[Identity], expected: bool) {
        for networks in [Networks::of(acl), Networks::default()] {
            let permitted = permits(acl, &networks, wanted, ids, &Schemes::default());
            assert_eq!(permitted, expected, "{acl:?} {wanted} {ids:?}");
        }
    }

    #[test]
    fn permissions() {
        let ip = &ids()[..1];
        let bob = &ids()[..2];
        let acl = [Acl::new(READ, "world", "anyone"), Acl::new(WRITE | ADMIN, "digest", "bob:h")];
        check_permits(&acl, READ, ip, true);
        check_permits(&acl, WRITE, ip, false);
        check_permits(&acl, WRITE, bob, true);
        check_permits(&acl, DELETE | ADMIN, bob, true);
        check_permits(&acl, DELETE, bob, false);
        check_permits(&acl, DELETE, &ids(), true);
        check_permits(&[], DELETE, ip, true);
        check_permits(&[Acl::new(ALL, "ip", "10.0.0.0/8")], DELETE, ip, true);
        check_permits(&[Acl::new(ALL, "ip", "10.1.0.0/16")], DELETE, ip, false);
        let skip = Schemes { skip_acl: true, ..Schemes::default() };
        assert!(permits(&acl, &Networks::of(&acl), DELETE, ip, &skip));
    }

    #[test]
    fn get_acl_hides_hashes() {
        let acl = [
            Acl::new(31, "digest", "bob:hash:more"),
            Acl::new(1, "sasl", "a:b"),
            Acl::new(1, "digest", "odd"),
        ];
        let shown = [Acl::new(31, "digest", "bob:x"), acl[1].clone(), acl[2].clone()];
        assert_eq!(masked(&acl), shown);
    }
}
