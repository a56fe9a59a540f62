//! Features that are on for a share of the instances.
//! Owns the decision who is in a share: the same at every look, and a larger share keeps all of a
//! smaller one.
//! Never knows what a feature is: it is a name.

/// Whether an instance is in the share of a feature, in percent.
///
/// ```
/// use mainstay_policy::feature::is_in_share;
/// assert!(is_in_share("search", "web", 100.0));
/// assert!(!is_in_share("search", "web", 0.0));
/// ```
#[must_use]
pub fn is_in_share(feature: &str, instance: &str, percent: f64) -> bool {
    /// Steps of the share: a hundredth of a percent.
    const STEPS: u64 = 10_000;
    let bytes = feature.bytes().chain([0]).chain(instance.bytes());
    // FNV-1a, then a mix, so that its low digits are as good as its high ones.
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let step = (hash ^ (hash >> 31)) % STEPS;
    (step as f64) < percent * 100.0
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_share_has_that_many_and_grows_by_adding() {
        for feature in ["search", "thumbnails", "a"] {
            let at = |percent: f64| {
                let all = (0..10_000).map(|number| format!("machine/web@{number}"));
                all.map(move |instance| is_in_share(feature, &instance, percent))
            };
            for percent in [0.0, 1.0, 25.0, 50.0, 99.0, 100.0] {
                let count = at(percent).filter(|is_in| *is_in).count();
                let expected = percent * 100.0;
                assert!(
                    (count as f64 - expected).abs() <= 150.0,
                    "{feature} {percent}: {count}"
                );
            }
            let grown = at(25.0).zip(at(30.0));
            assert!(grown.into_iter().all(|(less, more)| more || !less));
        }
    }

    #[test]
    fn features_do_not_choose_the_same_instances() {
        let all = (0..10_000).map(|number| format!("web@{number}"));
        let both = all.filter(|one| is_in_share("a", one, 50.0) && is_in_share("b", one, 50.0));
        let count = both.count();
        assert!((2300..2700).contains(&count), "{count}");
    }
}
