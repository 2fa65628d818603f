//! Counts of durations, fine where they are short.

/// Up to 16 ms in steps of 4 us, then up to 4 s in steps of 1 ms.
#[derive(Clone)]
pub(crate) struct Histogram {
    fine: Vec<u32>,
    coarse: Vec<u32>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// Nothing counted.
    pub(crate) fn new() -> Self {
        Self {
            fine: vec![0; 4_000],
            coarse: vec![0; 4_000],
            count: 0,
            max: 0,
        }
    }

    /// Counts one, in ns.
    pub(crate) fn add(&mut self, nanoseconds: u64) {
        let fine = (nanoseconds / FINE) as usize;
        let coarse = ((nanoseconds / COARSE) as usize).min(self.coarse.len() - 1);
        match self.fine.get_mut(fine) {
            Some(count) => *count += 1,
            None => self.coarse[coarse] += 1,
        }
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// The duration that so great a share does not exceed, ms.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        let fine = self.fine.iter().zip((1..).map(|n| n * FINE));
        let coarse = self.coarse.iter().zip((1..).map(|n| n * COARSE));
        for (count, upper) in fine.chain(coarse) {
            seen += u64::from(*count);
            if seen >= rank {
                return upper.min(self.max) as f64 / 1e6;
            }
        }
        self.max()
    }

    /// The longest, ms.
    pub(crate) fn max(&self) -> f64 {
        self.max as f64 / 1e6
    }
}

const FINE: u64 = 4_000;
const COARSE: u64 = 1_000_000;
