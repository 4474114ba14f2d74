//! A place in a checkpoint, from which a module reads its tensors.

use crate::low_rank::{Applied, Beside, Changes, merged};
use crate::shapes::Shapes;
use crate::source::{Files, Fresh, Naming, Pages, diffusers_names};
use crate::{Error, Init, Kernels, ModuleValue, Part, Result, Role, Source, Tap};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// A place in a checkpoint: a source of tensors and a path in it, and the number format and device to load to.
#[derive(Clone)]
pub struct Weights {
    root: Rc<Root>,
    path: String,
}

struct Root {
    source: Rc<dyn Source>,
    part: String,
    kind: Kind,
    device: Device,
    kernels: Kernels,
    changes: Rc<Changes>,
    /// The layers whose changes were applied.
    changed: RefCell<BTreeSet<String>>,
    taps: RefCell<Vec<Tap>>,
}

impl Weights {
    /// The weights of one part of a model (`unet`, `vae`, `text_encoder`) in memory-mapped safetensors files. On the
    /// CPU and in the number format of the file, nothing is copied.
    ///
    /// # Errors
    /// A file cannot be opened or is incomplete.
    pub fn open(part: &str, files: &[impl AsRef<Path>], kind: Kind, device: Device) -> Result<Weights> {
        Weights::open_named(part, files, &diffusers_names, kind, device)
    }

    /// Like [`Weights::open`], for files in which tensors have other names.
    ///
    /// # Errors
    /// A file cannot be opened or is incomplete, or two tensors get the same name.
    pub fn open_named(
        part: &str,
        files: &[impl AsRef<Path>],
        naming: Naming,
        kind: Kind,
        device: Device,
    ) -> Result<Weights> {
        Ok(Weights::from_source(part, Rc::new(Files::open(files, naming)?), kind, device))
    }

    /// Random weights from a seed, initialised as PyTorch does: for tests, benches and lists of taps.
    pub fn random(part: &str, seed: u64, kind: Kind, device: Device) -> Weights {
        let fresh = Fresh { seed, trainable: false, made: RefCell::default() };
        Weights::from_source(part, Rc::new(fresh), kind, device)
    }

    /// Weights that have only shapes. A forward pass through them computes nothing and takes no memory, but every tap
    /// sees the shape of its tensor. The input must be [`shape_only`](crate::shape_only) as well.
    pub fn shapes(part: &str, kind: Kind) -> Weights {
        Weights::from_source(part, Rc::new(Shapes), kind, Device::Cpu)
    }

    /// Weights that have only shapes, and the list of all tensors that modules ask them for.
    pub fn asked(part: &str, kind: Kind) -> (Weights, Asked) {
        let asked = Asked::default();
        (Weights::from_source(part, Rc::new(Listing(asked.clone())), kind, Device::Cpu), asked)
    }

    /// Weights to train, initialised from a seed, and the list of the variables that modules make of them.
    pub fn trainable(part: &str, seed: u64, device: Device) -> (Weights, Variables) {
        let fresh = Rc::new(Fresh { seed, trainable: true, made: RefCell::default() });
        let weights = Weights::rooted(fresh.clone(), part, Kind::Float, device, Kernels::PLAIN, Rc::default());
        (weights, Variables(fresh))
    }

    fn from_source(part: &str, source: Rc<dyn Source>, kind: Kind, device: Device) -> Weights {
        Weights::rooted(source, part, kind, device, Kernels::of(kind, device), Rc::default())
    }

    fn rooted(
        source: Rc<dyn Source>,
        part: &str,
        kind: Kind,
        device: Device,
        kernels: Kernels,
        changes: Rc<Changes>,
    ) -> Weights {
        let (changed, taps) = (RefCell::default(), RefCell::default());
        let root = Root { source, part: part.into(), kind, device, kernels, changes, changed, taps };
        Weights { root: Rc::new(root), path: String::new() }
    }

    /// The same weights with low-rank changes of their layers. No module has read from them yet.
    pub fn with_changes(self, changes: Changes) -> Weights {
        let Root { source, part, kind, device, kernels, .. } = &*self.root;
        Weights::rooted(source.clone(), part, *kind, *device, *kernels, Rc::new(changes))
    }

    /// The same weights for layers that use other kernels. No module has read from them yet.
    pub fn with_kernels(self, kernels: Kernels) -> Weights {
        let Root { source, part, kind, device, changes, .. } = &*self.root;
        Weights::rooted(source.clone(), part, *kind, *device, kernels, changes.clone())
    }

    /// The place below this one: `weights.at("resnets").at(0)`, or `weights.at("resnets.0")`.
    pub fn at(&self, name: impl Display) -> Weights {
        Weights { root: self.root.clone(), path: self.name(name) }
    }

    /// Reads the tensor `name`, whose shape is known.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or is stored in an unsupported number format.
    pub fn tensor(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let Root { source, kind, device, changes, .. } = &*self.root;
        let read = |kind| source.tensor(&self.name(name), shape, init, kind, *device);
        match changes.get(&self.path).filter(|_| name == "weight") {
            Some(changes) => {
                let weight = merged(&self.path, changes, shape, *kind, *device, read)?;
                self.root.changed.borrow_mut().insert(self.path.clone());
                if changes.iter().any(|(_, how)| matches!(how, Applied::Merged(_))) {
                    source.copied(&self.name(name));
                }
                Ok(weight)
            }
            None => read(*kind),
        }
    }

    /// Reads the `weight` of a convolution, as its kernels need it.
    ///
    /// # Errors
    /// See [`Weights::tensor`].
    pub(crate) fn convolution(&self, shape: &[i64], init: Init) -> Result<Tensor> {
        let read = self.tensor("weight", shape, init)?;
        let address = read.data_ptr();
        let placed = self.root.kernels.placed(read);
        if placed.data_ptr() != address {
            self.root.source.copied(&self.name("weight"));
        }
        Ok(placed)
    }

    /// Checks that every change was applied to a layer.
    ///
    /// # Errors
    /// No module has read the weight of a layer that is changed.
    pub fn check_changes(&self) -> Result<()> {
        let Root { part, changes, changed, .. } = &*self.root;
        let changed = changed.borrow();
        match changes.keys().find(|layer| !changed.contains(*layer)) {
            Some(layer) => {
                let hint = "\nhint: a low-rank change is of this layer, which no module has read".into();
                Err(Error::Missing { name: format!("{layer}.weight"), file: part.clone(), hint })
            }
            None => Ok(()),
        }
    }

    /// The changes that are computed beside the layer here.
    pub(crate) fn beside(&self) -> Vec<Beside> {
        let Root { kind, device, changes, .. } = &*self.root;
        changes.get(&self.path).map_or_else(Vec::new, |changes| Beside::of(changes, *kind, *device))
    }

    /// Whether there is a tensor `name` here.
    pub fn has(&self, name: &str) -> bool {
        self.root.source.has(&self.name(name))
    }

    /// Makes a tap for a value of [`ModuleValue::Other`]. Its name is the part, this path and `word`.
    pub fn tap(&self, word: &str) -> Tap {
        self.tap_of(word, ModuleValue::Other)
    }

    /// Makes a tap for the output of a residual module, see [`Tap::is_residual`].
    pub fn residual_tap(&self, word: &str) -> Tap {
        self.tap_of(word, ModuleValue::Residual)
    }

    /// Makes a tap for a value. Its name is the part, this path and `word`.
    pub fn tap_of(&self, word: &str, value: ModuleValue) -> Tap {
        let part = &self.root.part;
        let tap = Tap::new(format!("{part}.{}", self.name(word)), Role::Module(Part::of_name(part), value));
        self.root.taps.borrow_mut().push(tap.clone());
        tap
    }

    /// Moves a tensor that a module has computed itself to the device of the weights.
    pub fn place(&self, tensor: Tensor) -> Tensor {
        self.root.source.place(tensor, self.root.device)
    }

    /// Every tap made so far, in the order of loading.
    pub fn taps(&self) -> Vec<Tap> {
        self.root.taps.borrow().clone()
    }

    /// The names of the tensors that no module has read.
    pub fn unread(&self) -> Vec<String> {
        self.root.source.unread()
    }

    /// The pages of files that the tensors read so far lie in.
    pub fn pages(&self) -> Pages {
        self.root.source.pages()
    }

    /// The number format that tensors are loaded to.
    pub fn kind(&self) -> Kind {
        self.root.kind
    }

    /// The kernels that the layers use.
    pub fn kernels(&self) -> Kernels {
        self.root.kernels
    }

    /// Whether changes of the layers are computed beside them, at a scale that may vary from call to call.
    pub fn varies(&self) -> bool {
        let mut all = self.root.changes.values().flatten();
        all.any(|(_, how)| matches!(how, Applied::Beside(_)))
    }

    /// The device that tensors are loaded to.
    pub fn device(&self) -> Device {
        self.root.device
    }

    fn name(&self, word: impl Display) -> String {
        if self.path.is_empty() { word.to_string() } else { format!("{}.{word}", self.path) }
    }
}

/// The tensors that modules have asked [`Weights::asked`] for: names, shapes and how they are initialised.
#[derive(Clone, Default)]
pub struct Asked(Rc<RefCell<Tensors>>);

/// The shape of each tensor, and how it is initialised, by its name.
type Tensors = BTreeMap<String, (Vec<i64>, Init)>;

impl Asked {
    /// Takes the list.
    pub fn take(&self) -> Tensors {
        self.0.take()
    }
}

/// A source that lists what it is asked for, and has only shapes.
struct Listing(Asked);

impl Source for Listing {
    fn tensor(&self, name: &str, shape: &[i64], init: Init, kind: Kind, device: Device) -> Result<Tensor> {
        self.0.0.borrow_mut().insert(name.into(), (shape.into(), init));
        Shapes.tensor(name, shape, init, kind, device)
    }

    fn has(&self, name: &str) -> bool {
        Shapes.has(name)
    }

    fn unread(&self) -> Vec<String> {
        Vec::new()
    }

    fn place(&self, tensor: Tensor, device: Device) -> Tensor {
        Shapes.place(tensor, device)
    }
}

/// The trainable tensors that modules have made of [`Weights::trainable`], by their names in the checkpoint.
pub struct Variables(Rc<Fresh>);

impl Variables {
    /// Every variable by its name.
    pub fn named(&self) -> BTreeMap<String, Tensor> {
        let made = self.0.made.borrow();
        made.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// How many numbers there are to train.
    pub fn count(&self) -> usize {
        self.0.made.borrow().values().map(Tensor::numel).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Named, Piece};
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

    fn file(name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> tempfile::TempPath {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        serialize_to_file([(name, view)], None, &path).unwrap();
        path
    }

    fn open(path: &Path) -> Weights {
        Weights::open("vae", &[path], Kind::Float, Device::Cpu).unwrap()
    }

    fn f32_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn reads_a_file_without_a_copy_and_names_what_is_wrong() {
        let path = file("a.weight", Dtype::F32, &[2, 2], &f32_bytes(&[1.0, 2.0, 3.0, 4.0]));
        let weights = open(&path);
        assert_eq!(weights.unread(), ["a.weight"]);
        let first = weights.at("a").tensor("weight", &[2, 2], Init::Zeros).unwrap();
        let again = weights.tensor("a.weight", &[2, 2], Init::Zeros).unwrap();
        assert_eq!(first.data_ptr(), again.data_ptr(), "both are views of the file");
        assert_eq!(first.double_value(&[1, 0]), 3.0);
        assert!(weights.unread().is_empty());
        let error = weights.tensor("a.weight", &[2, 3], Init::Zeros).unwrap_err().to_string();
        assert!(error.starts_with("a.weight: expected shape [2, 3], found [2, 2] in "), "{error}");
        assert!(matches!(weights.tensor("b", &[1], Init::Zeros), Err(Error::Missing { .. })));
    }

    #[test]
    fn tensors_whose_pages_are_released_keep_their_numbers() {
        let numbers: Vec<f32> = (0..10_000).map(|number| number as f32).collect();
        let path = file("a", Dtype::F32, &[10_000], &f32_bytes(&numbers));
        let weights = open(&path);
        assert_eq!(weights.pages().bytes(), 0, "nothing was read");
        let tensor = weights.tensor("a", &[10_000], Init::Zeros).unwrap();
        let pages = weights.pages();
        drop(weights);
        assert_eq!(pages.bytes(), 40_000);
        for _ in 0..2 {
            pages.release();
            assert_eq!(Vec::<f32>::try_from(&tensor).unwrap(), numbers);
        }
    }

    #[test]
    fn reads_halves_and_the_names_and_shapes_of_old_files() {
        let half = [0x00, 0x3c, 0x00, 0xc0]; // 1.0, -2.0
        let path = file("decoder.mid_block.attentions.0.query.weight", Dtype::F16, &[1, 2, 1, 1], &half);
        let read = open(&path).tensor("decoder.mid_block.attentions.0.to_q.weight", &[1, 2], Init::Zeros).unwrap();
        assert_eq!((read.double_value(&[0, 0]), read.double_value(&[0, 1])), (1.0, -2.0));
    }

    /// The naming of a file whose every tensor is stored transposed, and is read as `a`.
    fn transposed(_: &str) -> Vec<Named> {
        vec![Named { name: "a".into(), piece: Piece::Transposed }]
    }

    #[test]
    fn a_transposed_matrix_is_read_in_the_order_of_its_own_rows() {
        let numbers: Vec<f32> = (0..15).map(|number| number as f32).collect(); // exact in every format
        let stored = Tensor::from_slice(&numbers).view([3, 5]);
        let expected = stored.transpose(0, 1).contiguous();
        for (kind, dtype) in [
            (Kind::Float, Dtype::F32),
            (Kind::Half, Dtype::F16),
            (Kind::BFloat16, Dtype::BF16),
            (Kind::Double, Dtype::F64),
        ] {
            let of_kind = stored.to_kind(kind);
            let mut bytes = vec![0; of_kind.numel() * kind.elt_size_in_bytes()];
            of_kind.copy_data_u8(&mut bytes, of_kind.numel());
            let path = file("projection", dtype, &[3, 5], &bytes);
            for asked in [Kind::Float, Kind::BFloat16, kind] {
                let weights = Weights::open_named("text_encoder_2", &[&path], &transposed, asked, Device::Cpu).unwrap();
                let read = weights.tensor("a", &[5, 3], Init::Zeros).unwrap();
                assert!(read.is_contiguous() && read.kind() == asked && read.equal(&expected.to_kind(asked)));
            }
            let tensors = crate::Tensors::open(&[&path], &transposed).unwrap();
            assert_eq!(tensors.form("a").unwrap(), (&[5, 3][..], kind));
            assert!(tensors.get("a").unwrap().equal(&expected.to_kind(kind)));
            assert!((tensors.lazy("a", None).unwrap().make)().equal(&expected.to_kind(kind)));
        }
    }

    #[test]
    fn a_transposed_matrix_of_another_shape_is_named_as_it_is_stored() {
        let read = |shape: &[usize], numbers: usize| {
            let path = file("projection", Dtype::F32, shape, &f32_bytes(&vec![0.5; numbers]));
            let weights = Weights::open_named("text_encoder_2", &[&path], &transposed, Kind::Float, Device::Cpu)?;
            weights.tensor("a", &[5, 3], Init::Zeros)
        };
        assert!(read(&[3, 5], 15).is_ok());
        let error = read(&[4, 5], 20).unwrap_err().to_string();
        assert!(error.starts_with("projection: expected shape [3, 5], found [4, 5] in "), "{error}");
        let error = read(&[15], 15).unwrap_err().to_string();
        assert!(error.contains("projection: [15] cannot be transposed: it has not two axes"), "{error}");
    }

    #[test]
    fn a_cut_or_garbled_file_is_an_error_with_its_name() {
        let path = file("a", Dtype::F32, &[64], &f32_bytes(&[0.5; 64]));
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = Weights::open("vae", &[&path], Kind::Float, Device::Cpu).err().expect("a cut file").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        for bit in 0..64 {
            let mut garbled = whole.clone();
            garbled[bit / 8] ^= 1 << (bit % 8); // the header's length
            std::fs::write(&path, &garbled).unwrap();
            assert!(Weights::open("vae", &[&path], Kind::Float, Device::Cpu).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_weights_in_any_order() {
        let draw = |names: [&str; 2]| {
            let weights = Weights::random("unet", 5, Kind::Float, Device::Cpu);
            let mut read = names.map(|name| (name.to_string(), weights.tensor(name, &[8], Init::FanIn(8)).unwrap()));
            read.sort_by(|a, b| a.0.cmp(&b.0));
            read.map(|(_, tensor)| Vec::<f32>::try_from(tensor).unwrap())
        };
        assert_eq!(draw(["a", "b"]), draw(["b", "a"]));
        assert_ne!(draw(["a", "b"])[0], draw(["a", "b"])[1]);
    }
}
