//! Where tensors come from: a checkpoint's files, or a seed.

use crate::{Error, Result, header, random};
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::{Dtype, SafeTensors};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A source of named tensors.
pub trait Source {
    /// The tensor `name`, whose shape the caller knows. A source without files initialises it as `init` says.
    fn tensor(&self, name: &str, shape: &[i64], init: Init, kind: Kind, device: Device) -> Result<Tensor>;
    /// Whether the source has a tensor of that name.
    fn has(&self, name: &str) -> bool;
    /// The names of the tensors that were not read.
    fn unread(&self) -> Vec<String>;
    /// The caller has copied the tensor `name`, and needs the one that it read no longer.
    fn copied(&self, _name: &str) {}
    /// The pages of files that the tensors read so far lie in.
    fn pages(&self) -> Pages {
        Pages::default()
    }
    /// Moves a tensor that was not read from here to the device of the others.
    fn place(&self, tensor: Tensor, device: Device) -> Tensor {
        tensor.to_device(device)
    }
}

/// How a tensor is initialised that is not read from a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Uniform in ±`1/sqrt(fan_in)`, PyTorch's default for linear and convolution layers.
    FanIn(i64),
    /// Normal with this standard deviation.
    Normal(f64),
}

impl Init {
    fn fill(self, shape: &[i64], kind: Kind) -> Tensor {
        let options = (Kind::Float, Device::Cpu);
        let tensor = match self {
            Init::Zeros => Tensor::zeros(shape, options),
            Init::Ones => Tensor::ones(shape, options),
            Init::FanIn(fan) => {
                let bound = 1.0 / (fan as f64).sqrt();
                Tensor::empty(shape, options).uniform_(-bound, bound)
            }
            Init::Normal(deviation) => Tensor::randn(shape, options) * deviation,
        };
        tensor.to_kind(kind)
    }
}

/// Memory-mapped safetensors files.
pub(crate) struct Files {
    places: BTreeMap<String, Place>,
    files: Vec<(String, &'static Mmap)>,
    read: RefCell<BTreeSet<String>>,
}

struct Place {
    stored: String,
    file: usize,
    start: usize,
    bytes: usize,
    dtype: Dtype,
    /// The shape that modules read. Of a transposed tensor the file has the other order of axes.
    shape: Vec<i64>,
    is_transposed: bool,
}

impl Place {
    /// The place of a piece. `None` if the tensor has no such piece.
    fn piece(mut self, piece: Piece) -> Option<Place> {
        match piece {
            Piece::Whole => {}
            Piece::Rows { index, of } => {
                let rows = *self.shape.first().filter(|rows| **rows % of as i64 == 0)?;
                (self.shape[0], self.bytes) = (rows / of as i64, self.bytes / of);
                self.start += index * self.bytes;
            }
            Piece::Transposed => {
                let [rows, columns] = self.shape[..] else { return None };
                (self.shape, self.is_transposed) = (vec![columns, rows], true);
            }
        }
        Some(self)
    }

    /// A shape that modules read, as the file has it.
    fn as_stored(&self, shape: &[i64]) -> Vec<i64> {
        let stored = shape.iter().copied();
        if self.is_transposed { stored.rev().collect() } else { stored.collect() }
    }

    /// The name for errors about the shape in the file.
    fn name<'a>(&'a self, name: &'a str) -> &'a str {
        if self.is_transposed { &self.stored } else { name }
    }
}

impl Files {
    pub(crate) fn open(paths: &[impl AsRef<Path>], naming: Naming) -> Result<Files> {
        let mut files = Files { places: BTreeMap::new(), files: Vec::new(), read: RefCell::default() };
        for path in paths {
            files.add(path.as_ref(), naming)?;
        }
        Ok(files)
    }

    fn add(&mut self, path: &Path, naming: Naming) -> Result<()> {
        let file = path.display().to_string();
        let fail = |cause: String| Error::File { file: file.clone(), cause };
        // The file stays mapped as long as the process: it is not known when the last tensor over it is dropped. Its
        // pages belong to the file, so the system can free their memory.
        let map: &'static Mmap = Box::leak(Box::new(header::map(path)?));
        let header = SafeTensors::deserialize(map).map_err(|error| header::not_whole(path, &error))?;
        self.files.push((file.clone(), map));
        for (stored, view) in header.iter() {
            for Named { name, piece } in naming(stored) {
                let place = Place {
                    stored: stored.into(),
                    file: self.files.len() - 1,
                    start: view.data().as_ptr() as usize - map.as_ptr() as usize,
                    bytes: view.data().len(),
                    dtype: view.dtype(),
                    shape: view.shape().iter().map(|&size| size as i64).collect(),
                    is_transposed: false,
                };
                let shape = place.shape.clone();
                let place = place.piece(piece).ok_or_else(|| {
                    fail(match piece {
                        Piece::Transposed => format!("{stored}: {shape:?} cannot be transposed: it has not two axes"),
                        _ => format!("{stored}: {shape:?} cannot be divided as {piece:?}"),
                    })
                })?;
                if let Some(other) = self.places.insert(name.clone(), place) {
                    let there = &self.files[other.file].0;
                    return Err(fail(format!("{stored}: this tensor is also {} in {there}", other.stored)));
                }
            }
        }
        Ok(())
    }

    /// What the files have where a tensor is missing: the same name below a prefix, or a few names.
    fn instead(&self, name: &str) -> String {
        let below = format!(".{name}");
        if let Some(other) = self.places.keys().find(|other| other.ends_with(&below)) {
            let prefix = &other[..other.len() - name.len()];
            let all = self.places.keys().filter(|name| name.starts_with(prefix)).count();
            return format!("\nhint: there is {other}: {all} of {} names begin with {prefix}", self.places.len());
        }
        let some: Vec<&str> = self.places.keys().take(3).map(String::as_str).collect();
        match some.is_empty() {
            true => "\nhint: there are no tensors of this part".into(),
            false => format!("\nhint: there are {} tensors, such as {}", self.places.len(), some.join(", ")),
        }
    }

    /// Lets the system take back the pages of a tensor that was copied. Reading them again is possible, and slower.
    fn release(&self, place: &Place) {
        release(self.files[place.file].1, place.start, place.bytes);
    }

    /// A tensor over the bytes of the file, or over a copy where they are not aligned for their type or are transposed.
    fn view(&self, place: &Place, kind: Kind) -> Tensor {
        let stored = self.stored_view(place, &place.as_stored(&place.shape), kind);
        // A copy, because the kernels of a layer depend on the order of its numbers in memory.
        if place.is_transposed { stored.transpose(0, 1).contiguous() } else { stored }
    }

    /// A tensor of the shape that the file has, over its bytes or over a copy where they are not aligned for their type.
    fn stored_view(&self, place: &Place, shape: &[i64], kind: Kind) -> Tensor {
        let bytes = &self.files[place.file].1[place.start..place.start + place.bytes];
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes());
        if bytes.is_empty() || !aligned {
            return Tensor::from_data_size(bytes, shape, kind);
        }
        let mut strides = vec![1; shape.len()];
        for axis in (1..strides.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        #[allow(unsafe_code)]
        // Safety: the bytes are never unmapped, cover the shape, and weights are never written to.
        unsafe {
            Tensor::from_blob(bytes.as_ptr(), shape, &strides, kind, Device::Cpu)
        }
    }
}

impl Files {
    /// The names of all tensors, in alphabetical order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// A tensor in the number format of the file.
    pub(crate) fn stored(&self, name: &str) -> Result<Tensor> {
        let (place, kind) = self.place(name)?;
        Ok(self.view(place, kind))
    }

    /// The shape and number format of a tensor.
    pub(crate) fn form(&self, name: &str) -> Result<(&[i64], Kind)> {
        let (place, kind) = self.place(name)?;
        Ok((&place.shape, kind))
    }

    fn place(&self, name: &str) -> Result<(&Place, Kind)> {
        let Some(place) = self.places.get(name) else {
            let file = self.files.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::Missing { name: name.into(), file, hint: self.instead(name) });
        };
        let kind = match place.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            other => {
                let file = self.files[place.file].0.clone();
                return Err(Error::Format { name: name.into(), found: header::name_of(other), file });
            }
        };
        Ok((place, kind))
    }
}

impl Source for Files {
    fn tensor(&self, name: &str, shape: &[i64], _: Init, kind: Kind, device: Device) -> Result<Tensor> {
        let (place, stored) = self.place(name)?;
        let file = || self.files[place.file].0.clone();
        if stored == Kind::Int64 {
            return Err(Error::Format { name: name.into(), found: header::name_of(place.dtype), file: file() });
        }
        // Old files store a linear layer as a 1x1 convolution: the same numbers with two more axes.
        let found = match place.shape.as_slice() {
            [head @ .., 1, 1] if shape.len() == head.len() => head,
            whole => whole,
        };
        if found != shape {
            return Err(Error::Shape {
                name: place.name(name).into(),
                expected: place.as_stored(shape),
                found: place.as_stored(&place.shape),
                file: file(),
            });
        }
        self.read.borrow_mut().insert(name.into());
        let tensor = self.view(place, stored).view(shape).to_device(device).to_kind(kind);
        if stored != kind || device != Device::Cpu || place.is_transposed {
            self.release(place);
        }
        Ok(tensor)
    }

    fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn pages(&self) -> Pages {
        let read = self.read.borrow();
        let places = read.iter().filter_map(|name| self.places.get(name));
        Pages(places.map(|place| (self.files[place.file].1, place.start, place.bytes)).collect())
    }

    fn copied(&self, name: &str) {
        self.places.get(name).into_iter().for_each(|place| self.release(place));
    }

    fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        // A buffer of old text encoders: the numbers 0 to 76.
        let known = |name: &str| name.ends_with("embeddings.position_ids");
        self.places.keys().filter(|name| !read.contains(*name) && !known(name)).cloned().collect()
    }
}

/// The pages of memory-mapped files that a network's tensors lie in. None for tensors that were copied, as to another device or number
/// format.
#[derive(Clone, Default)]
pub struct Pages(Vec<(&'static Mmap, usize, usize)>);

impl Pages {
    /// Lets the system take back the pages, until the network computes again. Its tensors stay as they are: a page that is used is then
    /// read from the file again, or from what the system still has of it.
    pub fn release(&self) {
        self.0.iter().for_each(|(map, start, bytes)| release(map, *start, *bytes));
    }

    /// How many bytes they have, whether they are in memory or not.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(_, _, bytes)| bytes).sum()
    }
}

fn release(map: &Mmap, start: usize, bytes: usize) {
    #[allow(unsafe_code)]
    // Safety: the map is of a file and read-only, so a page that is dropped is read again from the file.
    let advised = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, bytes) };
    drop(advised); // without it the process only keeps more memory
}

/// The name by which a module reads a stored tensor, or a piece of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The piece of the stored tensor that has it.
    pub piece: Piece,
}

/// A piece of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole,
    /// The rows of one of several equal parts along the first axis, as of three projections stored as one.
    Rows {
        /// Which part, from 0.
        index: usize,
        /// How many parts.
        of: usize,
    },
    /// All of a matrix, with its rows as columns: OpenCLIP multiplies from the other side.
    Transposed,
}

/// How the names in a file become those that modules read: none for a tensor that is not of this part of the model,
/// several for one that is stored fused.
pub type Naming<'a> = &'a dyn Fn(&str) -> Vec<Named>;

/// The naming of files in the diffusers layout.
pub fn diffusers_names(stored: &str) -> Vec<Named> {
    vec![Named { name: current_name(stored), piece: Piece::Whole }]
}

/// The current name of a tensor whose name was another in 2022: the VAE's attention projections.
fn current_name(name: &str) -> String {
    const RENAMED: [(&str, &str); 4] =
        [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];
    if !name.contains("mid_block.attentions.") {
        return name.into();
    }
    let present = |part: &str| RENAMED.iter().find(|(old, _)| *old == part).map_or(part, |(_, new)| new).to_string();
    name.split('.').map(present).collect::<Vec<_>>().join(".")
}

/// Tensors initialised from a seed and their own names, so that none depends on the order of reading.
pub(crate) struct Fresh {
    pub(crate) seed: u64,
    pub(crate) trainable: bool,
    pub(crate) made: RefCell<BTreeMap<String, Tensor>>,
}

impl Source for Fresh {
    fn tensor(&self, name: &str, shape: &[i64], init: Init, kind: Kind, device: Device) -> Result<Tensor> {
        if let Some(made) = self.made.borrow().get(name) {
            return Ok(made.shallow_clone());
        }
        let seed = name.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3) // FNV-1a
        });
        let tensor = random::seeded(seed >> 1, || init.fill(shape, kind)).to_device(device);
        let tensor = tensor.set_requires_grad(self.trainable);
        self.made.borrow_mut().insert(name.into(), tensor.shallow_clone());
        Ok(tensor)
    }

    fn has(&self, _: &str) -> bool {
        true
    }

    fn unread(&self) -> Vec<String> {
        Vec::new()
    }
}
