//! Which znodes a load touches: the shape of the tree and the choice of keys. Deterministic from its seed.

/// A small fast generator (splitmix64): the load must cost less than what it loads.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Shapes of the preloaded tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `/bench/<16 digits>`: all under one parent.
    Flat,
    /// Path 115 characters, last component 24, `FANOUT` children under each of the parents.
    Production,
}

/// Children of one parent in production shape.
const FANOUT: u64 = 1000;
const PRODUCTION_PREFIX: &str = "/bench/production/region-eu-central-1/cluster-0001/services/";
const PRODUCTION_PARENT_DIGITS: usize = 30;
const PRODUCTION_LEAF_DIGITS: usize = 24;
const _: () = assert!(PRODUCTION_PREFIX.len() + PRODUCTION_PARENT_DIGITS + 1 + PRODUCTION_LEAF_DIGITS == 115);

/// `count` znodes of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    pub shape: Shape,
    pub count: u64,
}

fn digits(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut at = start + width;
    while value > 0 && at > start {
        at -= 1;
        out[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

impl Keys {
    /// Appends the path of key `index`.
    pub fn path(&self, out: &mut Vec<u8>, index: u64) {
        match self.shape {
            Shape::Flat => {
                out.extend_from_slice(b"/bench/");
                digits(out, index, 16);
            }
            Shape::Production => {
                out.extend_from_slice(PRODUCTION_PREFIX.as_bytes());
                digits(out, index / FANOUT, PRODUCTION_PARENT_DIGITS);
                out.push(b'/');
                digits(out, index, PRODUCTION_LEAF_DIGITS);
            }
        }
    }

    /// Paths that must exist before the keys do, parents first.
    pub fn parents(&self) -> Vec<String> {
        match self.shape {
            Shape::Flat => vec!["/bench".to_string()],
            Shape::Production => {
                let fixed = PRODUCTION_PREFIX.trim_end_matches('/');
                let mut paths: Vec<String> = fixed
                    .char_indices()
                    .skip(1)
                    .filter(|(_, c)| *c == '/')
                    .map(|(at, _)| fixed[..at].to_string())
                    .collect();
                paths.push(fixed.to_string());
                for parent in 0..self.count.div_ceil(FANOUT) {
                    paths.push(format!("{PRODUCTION_PREFIX}{parent:0PRODUCTION_PARENT_DIGITS$}"));
                }
                paths
            }
        }
    }
}

/// How keys are chosen.
#[derive(Clone, Debug)]
pub enum Choice {
    Uniform,
    Zipf(Zipf),
}

/// Zipf over 0..count by rejection-inversion (Hörmann, Derflinger 1996); the ranks are spread over the keys so that
/// the hot ones are not neighbours.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: f64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
    shift: f64,
}

impl Zipf {
    /// `exponent` above 0; 0.99 is the customary choice.
    pub fn new(count: u64, exponent: f64) -> Zipf {
        let mut zipf =
            Zipf { count: count as f64, exponent, integral_first: 0.0, integral_last: 0.0, shift: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(zipf.count + 0.5);
        zipf.shift = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.exponent) * log;
        log * if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 }
    }

    fn inverse(&self, y: f64) -> f64 {
        let t = (y * (1.0 - self.exponent)).max(-1.0);
        (y * if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 }).exp()
    }

    /// Rank in 0..count; 0 is the most frequent.
    pub fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let u = self.integral_last + random.unit() * (self.integral_first - self.integral_last);
            let x = self.inverse(u);
            let k = x.round().clamp(1.0, self.count);
            if k - x <= self.shift || u >= self.integral(k + 0.5) - self.density(k) {
                return k as u64 - 1;
            }
        }
    }
}

impl Choice {
    /// Index of a key in 0..count.
    pub fn pick(&self, random: &mut Random, count: u64) -> u64 {
        match self {
            Choice::Uniform => random.below(count),
            Choice::Zipf(zipf) => zipf.rank(random).wrapping_mul(0x9e37_79b9_7f4a_7c15) % count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_shape_is_115_and_24() {
        let keys = Keys { shape: Shape::Production, count: 2_500 };
        let mut path = Vec::new();
        keys.path(&mut path, 2_345);
        assert_eq!(path.len(), 115);
        let text = String::from_utf8(path).unwrap();
        let (parent, leaf) = text.rsplit_once('/').unwrap();
        assert_eq!(leaf.len(), 24);
        let parents = keys.parents();
        assert!(parents.iter().any(|p| p == parent));
        assert_eq!(parents[0], "/bench");
        assert_eq!(parents.len(), 5 + 3);
    }

    #[test]
    fn zipf_prefers_the_first_ranks() {
        let zipf = Zipf::new(1_000, 0.99);
        let mut random = Random::new(1);
        let mut counts = vec![0u32; 1_000];
        for _ in 0..100_000 {
            counts[zipf.rank(&mut random) as usize] += 1;
        }
        // P(rank 0) is 1/H(1000, 0.99), about 0.13; rank 9 about a tenth of that.
        assert!((11_000..16_000).contains(&counts[0]), "{}", counts[0]);
        assert!((1_000..1_800).contains(&counts[9]), "{}", counts[9]);
        assert!(counts[999] < 100);
    }
}
