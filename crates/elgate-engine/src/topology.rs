//! What the machine has: the cores this process may use, and their NUMA nodes.

use std::path::Path;

/// The cores a process may run on. Tests make their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    cores: Vec<Core>,
}

/// One logical core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Core {
    /// The kernel's number for it.
    pub id: usize,
    /// The NUMA node it belongs to; 0 where the kernel does not say.
    pub numa_node: usize,
}

impl Topology {
    /// The machine this process runs on, limited to the cores it may use (cpuset, affinity).
    #[must_use]
    pub fn detect() -> Self {
        let nodes = numa_nodes(Path::new("/sys/devices/system/node"));
        let node_of =
            |id| nodes.iter().find(|(_, cores)| cores.contains(&id)).map_or(0, |(node, _)| *node);
        let mut cores: Vec<Core> = core_affinity::get_core_ids()
            .unwrap_or_default()
            .into_iter()
            .map(|core| Core { id: core.id, numa_node: node_of(core.id) })
            .collect();
        if cores.is_empty() {
            cores.push(Core { id: 0, numa_node: 0 });
        }
        Self { cores }
    }

    /// A made-up machine whose cores are spread evenly over `numa_nodes`.
    #[must_use]
    pub fn of(logical_cores: usize, numa_nodes: usize) -> Self {
        let per_node = logical_cores.div_ceil(numa_nodes.max(1)).max(1);
        let cores =
            (0..logical_cores.max(1)).map(|id| Core { id, numa_node: id / per_node }).collect();
        Self { cores }
    }

    /// The cores, in the kernel's order.
    #[must_use]
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// How many NUMA nodes the cores belong to.
    #[must_use]
    pub fn numa_nodes(&self) -> usize {
        let mut nodes: Vec<usize> = self.cores.iter().map(|core| core.numa_node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }
}

/// Node numbers with their cores, from sysfs.
fn numa_nodes(root: &Path) -> Vec<(usize, Vec<usize>)> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let node = name.strip_prefix("node")?.parse().ok()?;
            let list = std::fs::read_to_string(entry.path().join("cpulist")).ok()?;
            Some((node, parse_cpu_list(list.trim())))
        })
        .collect()
}

/// The kernel's list format: `0-3,8,10-11`.
fn parse_cpu_list(list: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cores.extend(first..=last.min(first + 4_095));
        }
    }
    cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_list_format() {
        assert_eq!(parse_cpu_list("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(parse_cpu_list(""), Vec::<usize>::new());
    }

    #[test]
    fn this_machine_has_a_core() {
        let topology = Topology::detect();
        assert!(!topology.cores().is_empty() && topology.numa_nodes() >= 1);
    }

    #[test]
    fn made_up_machines_spread_their_nodes() {
        assert_eq!(Topology::of(32, 2).numa_nodes(), 2);
        assert_eq!(Topology::of(1, 1).cores().len(), 1);
    }
}
