//! Who needs whom, as far as a configuration can be judged by it: cycles and waves.
//! Owns the shortest words for both, over plain indexes.
//! Never decides when a module starts: that is policy's.

/// A cycle as the modules on it, in the order in which they need each other.
pub(crate) fn cycle(needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    const NEW: u8 = 0;
    const OPEN: u8 = 1;
    const DONE: u8 = 2;
    let mut mark = vec![NEW; needs.len()];
    // Without recursion: a chain may be as long as there are modules.
    let mut path: Vec<(usize, usize)> = Vec::new();
    for start in 0..needs.len() {
        if mark[start] != NEW {
            continue;
        }
        mark[start] = OPEN;
        path.push((start, 0));
        while let Some((at, next)) = path.last_mut() {
            let Some(to) = needs[*at].get(*next).copied() else {
                mark[*at] = DONE;
                path.pop();
                continue;
            };
            *next += 1;
            if mark[to] == OPEN {
                let on_path = path.iter().map(|(module, _)| *module);
                return Some(on_path.skip_while(|module| *module != to).collect());
            }
            if mark[to] == NEW {
                mark[to] = OPEN;
                path.push((to, 0));
            }
        }
    }
    None
}

/// The wave of each module: one more than the latest of those it needs; `first` are in wave 0
/// and everybody else in a later one. There must be no cycle.
pub(crate) fn waves(needs: &[Vec<usize>], first: &[bool]) -> Vec<usize> {
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (module, needs) in needs.iter().enumerate() {
        for to in needs {
            needed_by[*to].push(module);
        }
    }
    let mut wave: Vec<usize> = first.iter().map(|first| usize::from(!first)).collect();
    let mut ready: Vec<usize> = (0..needs.len()).filter(|module| open[*module] == 0).collect();
    while let Some(module) = ready.pop() {
        for dependent in &needed_by[module] {
            wave[*dependent] = wave[*dependent].max(wave[module] + 1);
            open[*dependent] -= 1;
            if open[*dependent] == 0 {
                ready.push(*dependent);
            }
        }
    }
    wave
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_told_with_its_path() {
        assert_eq!(cycle(&[vec![1], vec![2], vec![1]]), Some(vec![1, 2]));
        assert_eq!(cycle(&[vec![0]]), Some(vec![0]));
        assert_eq!(cycle(&[vec![1, 2], vec![2], vec![]]), None);
    }

    #[test]
    fn a_long_chain_is_no_trouble() {
        let chain: Vec<Vec<usize>> = (0..100_000).map(|at| (0..at).rev().take(1).collect()).collect();
        assert_eq!(cycle(&chain), None);
        let mut first = vec![false; chain.len()];
        first[0] = true;
        assert_eq!(waves(&chain, &first).last(), Some(&99_999));
    }

    #[test]
    fn waves_follow_the_latest_need() {
        let needs = [vec![], vec![0], vec![0, 1], vec![]];
        assert_eq!(waves(&needs, &[true, false, false, false]), [0, 1, 2, 1]);
    }
}
