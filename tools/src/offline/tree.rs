//! A snapshot as a tree, for the tools that walk it.

use super::{Failure, java};
use ostler_engine::io::disk::RealDisk;
use ostler_engine::snapshot::{Contents, Image, ImageNode, ReadOptions, reader};
use std::collections::HashMap;
use std::path::Path;

/// Larger than anything a server was ever configured to hold in one znode; the file's own length bounds memory anyway.
const FIELD_BYTES_MAX: usize = 1 << 30;
/// What Apache makes the set of a znode's children for.
const CHILDREN_CAPACITY: usize = 8;

pub struct Tree {
    pub image: Image,
    pub contents: Contents,
    /// Of each node of `image`, by position: its children, in file order.
    children: Vec<Vec<usize>>,
    positions: HashMap<Box<str>, usize>,
}

impl Tree {
    /// Reads and checks the file; damage is an error with its offset.
    pub fn load(path: &Path) -> Result<Tree, Failure> {
        // For a message of the usual form when there is no such file.
        super::open(path)?;
        let mut image = Image::default();
        let options = ReadOptions { field_bytes_max: FIELD_BYTES_MAX, ..ReadOptions::default() };
        let contents = reader::read(&RealDisk, path, options, &mut image)
            .map_err(|error| Failure::Damaged(error.to_string()))?;
        Tree::build(image, contents).map_err(|why| Failure::Damaged(format!("{}: {why}", path.display())))
    }

    fn build(image: Image, contents: Contents) -> Result<Tree, String> {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); image.nodes.len()];
        let mut positions = HashMap::with_capacity(image.nodes.len());
        for (position, node) in image.nodes.iter().enumerate() {
            if positions.insert(node.path.clone(), position).is_some() {
                return Err(format!("znode {:?} is there twice", node.path));
            }
            if node.path.is_empty() {
                continue;
            }
            let (parent, _) = node.path.rsplit_once('/').ok_or(format!("{:?} is no path", node.path))?;
            let parent =
                positions.get(parent).ok_or(format!("znode {:?} comes before its parent", node.path))?;
            children[*parent].push(position);
        }
        if !positions.contains_key("") {
            return Err("there is no root".into());
        }
        Ok(Tree { image, contents, children, positions })
    }

    pub fn root(&self) -> usize {
        self.positions[""]
    }

    /// Of a path as users write it.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.positions.get(if path == "/" { "" } else { path }).copied()
    }

    pub fn node(&self, position: usize) -> &ImageNode {
        &self.image.nodes[position]
    }

    pub fn is_leaf(&self, position: usize) -> bool {
        self.children[position].is_empty()
    }

    /// In the order of Apache's tools.
    pub fn children(&self, position: usize) -> Vec<usize> {
        let mut children = self.children[position].clone();
        java::string_set_order(&mut children, CHILDREN_CAPACITY, |child| self.name(*child));
        children
    }

    /// The last component; empty for the root.
    pub fn name(&self, position: usize) -> &str {
        let path = &self.node(position).path;
        path.rsplit_once('/').map_or("", |(_, name)| name)
    }

    pub fn data_bytes(&self, position: usize) -> u64 {
        self.node(position).data.as_ref().map_or(0, |data| data.len() as u64)
    }

    /// Of every node, by position: its descendants, and the data bytes of itself and all of them.
    pub fn totals(&self) -> Vec<Totals> {
        let mut totals: Vec<Totals> = (0..self.image.nodes.len())
            .map(|n| Totals { descendants: 0, bytes: self.data_bytes(n) })
            .collect();
        // Children stand behind their parents, so backwards every node is complete before it is added.
        for position in (0..totals.len()).rev() {
            for child in &self.children[position] {
                let child = totals[*child];
                totals[position].descendants += child.descendants + 1;
                totals[position].bytes += child.bytes;
            }
        }
        totals
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub descendants: u64,
    pub bytes: u64,
}
