//! `ostler snapshot compare`: Apache's SnapshotComparer. Sizes of subtrees, layer by layer; sessions are ignored.

use super::tree::{Totals, Tree};
use super::{EXIT_OK, Failure, file_name};
use std::cmp::Ordering;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args, Debug)]
pub struct CompareArgs {
    /// The left snapshot file
    #[arg(short, long, value_name = "LEFT")]
    left: PathBuf,
    /// The right snapshot file
    #[arg(short, long, value_name = "RIGHT")]
    right: PathBuf,
    /// Print znodes whose subtrees differ by more bytes of data than this
    #[arg(short, long, value_name = "BYTETHRESHOLD")]
    bytes: u64,
    /// Print znodes whose numbers of descendants differ by more than this
    #[arg(short, long, value_name = "NODETHRESHOLD")]
    nodes: u64,
    /// Print every comparison
    #[arg(short, long)]
    debug: bool,
    /// Ask before each layer: enter for the next, a number for that layer, a path for that znode's children
    #[arg(short, long)]
    interactive: bool,
}

pub fn compare(args: &CompareArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<i32, Failure> {
    writeln!(out, "Successfully parsed options!")?;
    let left = Side::load(&args.left, out)?;
    let right = Side::load(&args.right, out)?;
    left.statistics(out)?;
    right.statistics(out)?;
    let comparison = Comparison { args, left, right };
    match args.interactive {
        true => comparison.ask(input, out)?,
        false => comparison.all(out)?,
    }
    writeln!(out, "All layers compared.")?;
    Ok(EXIT_OK)
}

/// One of the two trees, its layers sorted by path as Java compares strings.
struct Side {
    tree: Tree,
    totals: Vec<Totals>,
    layers: Vec<Vec<usize>>,
}

impl Side {
    fn load(path: &Path, out: &mut dyn Write) -> Result<Side, Failure> {
        let began = Instant::now();
        let tree = Tree::load(path)?;
        writeln!(
            out,
            "Deserialized snapshot in {} in {:.6} seconds",
            file_name(path),
            began.elapsed().as_secs_f64()
        )?;
        let began = Instant::now();
        let totals = tree.totals();
        let mut layers: Vec<Vec<usize>> = Vec::new();
        for (position, node) in tree.image.nodes.iter().enumerate() {
            let depth = node.path.matches('/').count();
            if layers.len() <= depth {
                layers.resize(depth + 1, Vec::new());
            }
            layers[depth].push(position);
        }
        for layer in &mut layers {
            sort(&tree, layer);
        }
        writeln!(out, "Processed data tree in {:.6} seconds", began.elapsed().as_secs_f64())?;
        Ok(Side { tree, totals, layers })
    }

    fn statistics(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "Node count: {}", self.tree.image.nodes.len())?;
        writeln!(out, "Total size: {}", self.totals[self.tree.root()].bytes)?;
        writeln!(out, "Max depth: {}", self.layers.len())?;
        for (depth, layer) in self.layers.iter().enumerate() {
            writeln!(out, "Count of nodes at depth {depth}: {}", layer.len())?;
        }
        Ok(writeln!(out)?)
    }

    fn layer(&self, depth: usize) -> &[usize] {
        self.layers.get(depth).map_or(&[], Vec::as_slice)
    }

    fn children(&self, path: &str) -> Option<Vec<usize>> {
        let mut children = self.tree.children(self.tree.find(path)?);
        sort(&self.tree, &mut children);
        Some(children)
    }

    fn path(&self, position: usize) -> &str {
        &self.tree.node(position).path
    }
}

fn sort(tree: &Tree, positions: &mut [usize]) {
    positions.sort_by(|a, b| java_order(&tree.node(*a).path, &tree.node(*b).path));
}

/// By UTF-16 units, as Java compares strings.
fn java_order(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

struct Comparison<'a> {
    args: &'a CompareArgs,
    left: Side,
    right: Side,
}

impl Comparison<'_> {
    fn depths(&self) -> usize {
        self.left.layers.len().max(self.right.layers.len())
    }

    fn all(&self, out: &mut dyn Write) -> Result<(), Failure> {
        self.announce(out)?;
        (0..self.depths()).try_for_each(|depth| self.depth(depth, out))
    }

    fn ask(&self, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
        let mut depth = 0;
        while depth < self.depths() {
            writeln!(out, "Current depth is {depth}")?;
            writeln!(out, "- Press enter to move to print current depth layer;")?;
            writeln!(out, "- Type a number to jump to and print all nodes at a given depth;")?;
            writeln!(
                out,
                "- Enter an ABSOLUTE path to print the immediate subtree of a node. Path must start with '/'."
            )?;
            out.flush()?;
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            self.announce(out)?;
            match line.trim_end_matches(['\n', '\r']) {
                "" => {
                    self.depth(depth, out)?;
                    depth += 1;
                }
                path if path.starts_with('/') => self.subtree(path, out)?,
                word => match word.parse::<usize>() {
                    Ok(wanted) if wanted < self.depths() => {
                        depth = wanted;
                        self.depth(depth, out)?;
                    }
                    Ok(_) => write!(out, "Depth must be in range [0, {}]", self.depths() - 1)?,
                    Err(_) => writeln!(
                        out,
                        "Input {word} is not valid. Depth must be in range [0, {}]. Path must be an absolute path which \
                         starts with '/'.",
                        self.depths() - 1
                    )?,
                },
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn announce(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let CompareArgs { bytes, nodes, .. } = self.args;
        Ok(writeln!(
            out,
            "Printing analysis for nodes difference larger than {bytes} bytes or node count difference larger than {nodes}."
        )?)
    }

    fn depth(&self, depth: usize, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "Analysis for depth {depth}")?;
        self.layers(self.left.layer(depth), self.right.layer(depth), out)
    }

    fn subtree(&self, path: &str, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "Analysis for node {path}")?;
        match (self.left.children(path), self.right.children(path)) {
            (None, None) => Ok(writeln!(out, "Path {path} is neither found in left tree nor right tree.")?),
            (left, right) => self.layers(&left.unwrap_or_default(), &right.unwrap_or_default(), out),
        }
    }

    /// Two sorted lists side by side.
    fn layers(&self, mut left: &[usize], mut right: &[usize], out: &mut dyn Write) -> Result<(), Failure> {
        while let ([l, left_rest @ ..], [r, right_rest @ ..]) = (left, right) {
            let (left_path, right_path) = (self.left.path(*l), self.right.path(*r));
            let order = java_order(left_path, right_path);
            if self.args.debug {
                writeln!(out, "Comparing {left_path} to {right_path}")?;
                let word = match order {
                    Ordering::Less => "left is less",
                    Ordering::Equal => "same",
                    Ordering::Greater => "right is less",
                };
                writeln!(out, "{word}")?;
            }
            match order {
                Ordering::Less => self.only("left", &self.left, *l, out)?,
                Ordering::Greater => self.only("right", &self.right, *r, out)?,
                Ordering::Equal => self.both(*l, *r, out)?,
            }
            if order.is_le() {
                left = left_rest;
            }
            if order.is_ge() {
                right = right_rest;
            }
        }
        left.iter().try_for_each(|l| self.only("left", &self.left, *l, out))?;
        right.iter().try_for_each(|r| self.only("right", &self.right, *r, out))
    }

    fn only(&self, word: &str, side: &Side, position: usize, out: &mut dyn Write) -> Result<(), Failure> {
        let Totals { descendants, bytes } = side.totals[position];
        let path = side.path(position);
        if bytes > self.args.bytes || descendants > self.args.nodes {
            writeln!(
                out,
                "Node {path} found only in {word} tree. Descendant size: {bytes}. Descendant count: {descendants}"
            )?;
        } else if self.wordy() {
            writeln!(out, "Filtered {word} node {path} of size {bytes}")?;
        }
        Ok(())
    }

    fn both(&self, left: usize, right: usize, out: &mut dyn Write) -> Result<(), Failure> {
        let (l, r) = (self.left.totals[left], self.right.totals[right]);
        let path = self.left.path(left);
        if l.bytes.abs_diff(r.bytes) > self.args.bytes
            || l.descendants.abs_diff(r.descendants) > self.args.nodes
        {
            let bytes = r.bytes as i64 - l.bytes as i64;
            let descendants = r.descendants as i64 - l.descendants as i64;
            writeln!(
                out,
                "Node {path} found in both trees. Delta: {bytes} bytes, {descendants} descendants"
            )?;
        } else if self.wordy() {
            writeln!(out, "Filtered node {path} of left size {}, right size {}", l.bytes, r.bytes)?;
        }
        Ok(())
    }

    fn wordy(&self) -> bool {
        self.args.debug || self.args.interactive
    }
}
