//! Znode paths: validation as the operations ask for it, and taking a path apart.

/// Parent path and last component of an absolute path. The parent of `/a` is `/`; `None` when there is no `/`.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let at = path.rfind('/')?;
    let parent = if at == 0 { "/" } else { &path[..at] };
    Some((parent, &path[at + 1..]))
}
