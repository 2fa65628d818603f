//! How much a source may ask for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::token_bucket::TokenBucket;

/// New calls per source address; IPv6 sources count by /64, since one host has all of it.
#[derive(Debug)]
pub(crate) struct SourceLimits {
    buckets: HashMap<IpAddr, TokenBucket>,
    /// Shared by all sources that the table has no room for.
    overflow: Option<TokenBucket>,
    swept: Option<Instant>,
    per_second: f64,
    burst: f64,
    sources_max: usize,
}

impl SourceLimits {
    pub(crate) fn new(per_second: f64, burst: f64, sources_max: usize) -> Self {
        Self {
            buckets: HashMap::new(),
            overflow: None,
            swept: None,
            per_second,
            burst,
            sources_max,
        }
    }

    /// May this source open one more call now?
    pub(crate) fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        let (rate, burst) = (self.per_second, self.burst);
        let source = host_of(source);
        if !self.buckets.contains_key(&source) && self.buckets.len() >= self.sources_max {
            self.sweep(now);
        }
        if self.buckets.len() < self.sources_max || self.buckets.contains_key(&source) {
            let bucket = self
                .buckets
                .entry(source)
                .or_insert_with(|| TokenBucket::full(now, burst));
            return bucket.take(now, rate, burst);
        }
        self.overflow
            .get_or_insert_with(|| TokenBucket::full(now, burst))
            .take(now, rate, burst)
    }

    /// What this source was last admitted for was none of what is limited.
    pub(crate) fn give_back(&mut self, source: IpAddr) {
        let bucket = self.buckets.get_mut(&host_of(source));
        if let Some(bucket) = bucket.or(self.overflow.as_mut()) {
            bucket.give_back(self.burst);
        }
    }

    /// Forgets sources whose bucket is full again; at most once a second, since it looks at all of them.
    fn sweep(&mut self, now: Instant) {
        if self
            .swept
            .is_some_and(|at| now.saturating_duration_since(at) < Duration::from_secs(1))
        {
            return;
        }
        self.swept = Some(now);
        let (rate, burst) = (self.per_second, self.burst);
        self.buckets
            .retain(|_, bucket| bucket.level(now, rate, burst) < burst);
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host has all of.
pub(crate) fn host_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut limits = SourceLimits::new(2.0, 5.0, 2);
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let taken = |limits: &mut SourceLimits, at: Instant, n| {
            (0..20).filter(|_| limits.admit(at, ip(n))).count()
        };
        assert_eq!(taken(&mut limits, start, 1), 5);
        assert_eq!(taken(&mut limits, start, 2), 5);
        assert_eq!(taken(&mut limits, start + Duration::from_secs(1), 1), 2);
        // No room for more sources: the others share one bucket, those that are known keep theirs.
        assert_eq!(taken(&mut limits, start + Duration::from_secs(1), 3), 5);
        assert_eq!(taken(&mut limits, start + Duration::from_secs(1), 4), 0);
        // After a while the known ones are forgotten and there is room.
        assert_eq!(taken(&mut limits, start + Duration::from_secs(60), 5), 5);
        assert!(limits.buckets.len() <= 2);
    }

    #[test]
    fn one_ipv6_host_can_not_multiply_itself() {
        let now = Instant::now();
        let mut limits = SourceLimits::new(1.0, 1.0, 9);
        assert!(limits.admit(now, "2001:db8::1".parse().unwrap()));
        assert!(!limits.admit(now, "2001:db8::2".parse().unwrap()));
        assert!(limits.admit(now, "2001:db8:0:1::1".parse().unwrap()));
    }
}
