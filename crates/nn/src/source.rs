//! Where tensors come from: a checkpoint's files, or a seed.

use crate::{Error, Result, random};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
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
    file: usize,
    start: usize,
    bytes: usize,
    dtype: Dtype,
    shape: Vec<i64>,
}

impl Files {
    pub(crate) fn open(paths: &[impl AsRef<Path>]) -> Result<Files> {
        let mut files = Files { places: BTreeMap::new(), files: Vec::new(), read: RefCell::default() };
        for path in paths {
            files.add(path.as_ref())?;
        }
        Ok(files)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let file = path.display().to_string();
        let fail = |cause: String| Error::File { file: file.clone(), cause };
        let handle = File::open(path).map_err(|error| fail(error.to_string()))?;
        // The file stays mapped as long as the process: it is not known when the last tensor over it is dropped. Its
        // pages belong to the file, so the system can free their memory.
        #[allow(unsafe_code)] // Safety: the map is read-only and never unmapped; the file must not be cut while in use.
        let map: &'static Mmap =
            Box::leak(Box::new(unsafe { Mmap::map(&handle) }.map_err(|error| fail(error.to_string()))?));
        let header = SafeTensors::deserialize(map)
            .map_err(|error| fail(format!("not a whole safetensors file ({error})\nhint: download the file again")))?;
        for (name, view) in header.iter() {
            let place = Place {
                file: self.files.len(),
                start: view.data().as_ptr() as usize - map.as_ptr() as usize,
                bytes: view.data().len(),
                dtype: view.dtype(),
                shape: view.shape().iter().map(|&size| size as i64).collect(),
            };
            self.places.insert(current_name(name), place);
        }
        self.files.push((file, map));
        Ok(())
    }

    /// A tensor over the bytes of the file, or over a copy where they are not aligned for their type.
    fn view(&self, place: &Place, kind: Kind) -> Tensor {
        let bytes = &self.files[place.file].1[place.start..place.start + place.bytes];
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes());
        if bytes.is_empty() || !aligned {
            return Tensor::from_data_size(bytes, &place.shape, kind);
        }
        let mut strides = vec![1; place.shape.len()];
        for axis in (1..strides.len()).rev() {
            strides[axis - 1] = strides[axis] * place.shape[axis];
        }
        #[allow(unsafe_code)]
        // Safety: the bytes are never unmapped, cover the shape, and weights are never written to.
        unsafe {
            Tensor::from_blob(bytes.as_ptr(), &place.shape, &strides, kind, Device::Cpu)
        }
    }
}

impl Source for Files {
    fn tensor(&self, name: &str, shape: &[i64], _: Init, kind: Kind, device: Device) -> Result<Tensor> {
        let Some(place) = self.places.get(name) else {
            let file = self.files.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::Missing { name: name.into(), file });
        };
        let file = || self.files[place.file].0.clone();
        let stored = match place.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => return Err(Error::Format { name: name.into(), found: format!("{other:?}"), file: file() }),
        };
        // Old files store a linear layer as a 1x1 convolution: the same numbers with two more axes.
        let found = match place.shape.as_slice() {
            [head @ .., 1, 1] if shape.len() == head.len() => head,
            whole => whole,
        };
        if found != shape {
            return Err(Error::Shape {
                name: name.into(),
                expected: shape.into(),
                found: place.shape.clone(),
                file: file(),
            });
        }
        self.read.borrow_mut().insert(name.into());
        Ok(self.view(place, stored).view(shape).to_device(device).to_kind(kind))
    }

    fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        // A buffer of old text encoders: the numbers 0 to 76.
        let known = |name: &str| name.ends_with("embeddings.position_ids");
        self.places.keys().filter(|name| !read.contains(*name) && !known(name)).cloned().collect()
    }
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
