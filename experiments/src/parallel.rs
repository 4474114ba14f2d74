//! Work on files of many cells, on all cores.

use anyhow::Result;
use std::thread::{ScopedJoinHandle, available_parallelism, scope};

/// Computes something of each item, from its place and itself, on all cores. The results have the order of the items.
///
/// # Errors
/// It fails for an item: the error is that of the first.
pub(crate) fn of_each<'a, T: Sync, R: Send>(
    items: &'a [T],
    of: impl Fn(usize, &'a T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let part = items.len().div_ceil(available_parallelism().map_or(1, usize::from)).max(1);
    let of_part = |number: usize, items: &'a [T]| -> Result<Vec<R>> {
        items.iter().enumerate().map(|(place, item)| of(number * part + place, item)).collect()
    };
    let of_part = &of_part;
    let joined = |thread: ScopedJoinHandle<'_, Result<Vec<R>>>| {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    };
    scope(|scope| {
        let parts = items.chunks(part).enumerate();
        let threads: Vec<_> = parts.map(|(number, items)| scope.spawn(move || of_part(number, items))).collect();
        let parts: Vec<Result<Vec<R>>> = threads.into_iter().map(joined).collect();
        Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[test]
    fn results_have_the_order_of_the_items_and_the_first_error_counts() {
        let items: Vec<usize> = (100..1100).collect();
        let sums = of_each(&items, |place, item| Ok(place + item)).unwrap();
        assert!(sums.iter().enumerate().all(|(place, sum)| *sum == 100 + 2 * place), "{sums:?}");
        assert_eq!(of_each(&[] as &[usize], |_, item| Ok(*item)).unwrap(), Vec::<usize>::new());
        let failed = of_each(&items, |place, item| {
            ensure!(place % 400 != 399, "item {item}");
            Ok(())
        });
        assert_eq!(failed.unwrap_err().to_string(), "item 499");
    }
}
