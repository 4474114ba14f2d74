//! The processor: its instruction sets decide how libtorch rounds.

use std::sync::LazyLock;

/// The processor's name, with the instruction sets that libtorch selects its kernels by.
pub static NAME: LazyLock<String> = LazyLock::new(|| {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default(); // on other systems only the architecture is known
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    match features().as_str() {
        "" => model.to_string(),
        features => format!("{model}, {features}"),
    }
});

/// The instruction sets that libtorch selects its kernels by and this processor has, separated by spaces.
pub fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        let found: Vec<&str> = known.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
        found.join(" ")
    }
    #[cfg(not(target_arch = "x86_64"))]
    String::new()
}
