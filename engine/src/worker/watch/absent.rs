//! Hashes that were looked for lately and that no watched path has: who writes the same znodes again and again, watched by
//! nobody, asks memory that is in the cache. Not here: what is watched (`index`).
//!
//! Exact, not a guess: a hash is noted only when no entry has it, and forgotten when one with it is made.

use super::hash::Quick;

pub(super) struct Absent {
    sets: Box<[Set; SETS]>,
}

/// The one noted last in front.
type Set = [Quick; 4];

/// Of 16 bytes each: small beside the second cache, room for a few thousand busy znodes.
const SETS: usize = 1024;

impl Absent {
    pub fn new() -> Absent {
        // What belongs into another set is never looked for in this one.
        Absent { sets: Box::new(std::array::from_fn(|at| [elsewhere(Quick(at as u32)); 4])) }
    }

    #[inline]
    pub fn has(&self, quick: Quick) -> bool {
        self.sets[set_of(quick)].contains(&quick)
    }

    pub fn note(&mut self, quick: Quick) {
        let set = &mut self.sets[set_of(quick)];
        set.rotate_right(1);
        set[0] = quick;
    }

    pub fn forget(&mut self, quick: Quick) {
        for noted in &mut self.sets[set_of(quick)] {
            if *noted == quick {
                *noted = elsewhere(quick);
            }
        }
    }
}

#[inline]
fn set_of(quick: Quick) -> usize {
    quick.0 as usize % SETS
}

fn elsewhere(quick: Quick) -> Quick {
    Quick(!quick.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_until_it_is_forgotten_or_four_came_after() {
        let mut absent = Absent::new();
        let of_one_set = |number: u32| Quick(number * SETS as u32 + 7);
        assert!((0..5_000).all(|quick| !absent.has(Quick(quick)) && !absent.has(Quick(!quick))));
        (0..5).for_each(|number| absent.note(of_one_set(number)));
        assert!(!absent.has(of_one_set(0)));
        assert!((1..5).all(|number| absent.has(of_one_set(number))));
        absent.forget(of_one_set(3));
        assert!(!absent.has(of_one_set(3)));
        assert!(absent.has(of_one_set(2)) && absent.has(of_one_set(4)));
    }
}
