//! Variables of a candle network with seeded initial values, as one flat array for the optimizer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder, VarMap};
use numerics::SplitMix64;

type Named = Arc<Mutex<BTreeMap<String, Var>>>;

/// Variables of a network, by name.
///
/// Candle's `VarMap` takes initial values from a generator that cannot be seeded on the CPU.
pub(crate) struct Vars {
    named: Named,
    seed: u64,
}

impl Vars {
    pub(crate) fn new(seed: u64) -> Self {
        Self { named: Named::default(), seed }
    }

    /// Returns a builder that creates a variable for each weight that a network requests.
    pub(crate) fn builder(&self) -> VarBuilder<'static> {
        let backend = Seeded { named: Arc::clone(&self.named), seed: self.seed };
        VarBuilder::from_backend(Box::new(backend), DType::F32, Device::Cpu)
    }

    /// Returns the same variables as a candle collection.
    pub(crate) fn var_map(&self) -> VarMap {
        let map = VarMap::new();
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        map.data()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(named.iter().map(|(n, v)| (n.clone(), v.clone())));
        map
    }

    fn all(&self) -> Vec<Var> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.values().cloned().collect()
    }

    /// Returns all values, in the order of the names.
    pub(crate) fn values(&self) -> Result<Vec<f32>> {
        flat(self.all().iter().map(Var::as_tensor))
    }

    /// Returns the gradients of all values, zero for variables without one.
    pub(crate) fn gradients(&self, grads: &GradStore) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        for var in self.all() {
            match grads.get(&var) {
                Some(g) => out.extend(g.flatten_all()?.to_vec1::<f32>()?),
                None => out.resize(out.len() + var.elem_count(), 0.0),
            }
        }
        Ok(out)
    }

    /// Sets all values, in the order of [`Vars::values`].
    ///
    /// # Errors
    /// If there are too few values.
    pub(crate) fn set(&self, mut values: &[f32]) -> Result<()> {
        for var in self.all() {
            let (these, rest) = values.split_at_checked(var.elem_count()).ok_or_else(|| {
                candle_core::Error::Msg("too few values for the variables".into())
            })?;
            values = rest;
            var.set(&Tensor::from_slice(these, var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}

fn flat<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    for t in tensors {
        out.extend(t.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(out)
}

struct Seeded {
    named: Named,
    seed: u64,
}

impl SimpleBackend for Seeded {
    fn get(&self, s: Shape, name: &str, h: Init, _: DType, dev: &Device) -> Result<Tensor> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(var) = named.get(name) {
            return Ok(var.as_tensor().clone());
        }
        // FNV-1a hash of the name, so that initial values do not depend on the order of requests.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        let mut noise = SplitMix64::new(self.seed ^ hash);
        let (mean, deviation, uniform) = match h {
            Init::Const(v) => (v as f32, 0.0, false),
            Init::Randn { mean, stdev } => (mean as f32, stdev as f32, false),
            Init::Uniform { lo, up } => {
                ((lo + up) as f32 / 2.0, ((up - lo) / 12.0_f64.sqrt()) as f32, true)
            }
            Init::Kaiming { dist, fan, non_linearity } => {
                let deviation = non_linearity.gain() / (fan.for_shape(&s) as f64).sqrt();
                (0.0, deviation as f32, matches!(dist, NormalOrUniform::Uniform))
            }
        };
        let values: Vec<f32> = (0..s.elem_count())
            .map(|_| {
                let unit = if uniform {
                    (noise.uniform() - 0.5) * 12.0_f32.sqrt()
                } else {
                    noise.normal()
                };
                mean + deviation * unit
            })
            .collect();
        let var = Var::from_tensor(&Tensor::from_vec(values, s, dev)?)?;
        let tensor = var.as_tensor().clone();
        named.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named
            .get(name)
            .map(|v| v.as_tensor().clone())
            .ok_or_else(|| candle_core::Error::Msg(format!("there is no variable {name}")))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_networks_and_values_can_be_set() {
        let layer = |seed| {
            let vars = Vars::new(seed);
            candle_nn::linear(3, 2, vars.builder().pp("layer")).unwrap();
            vars
        };
        let (a, b) = (layer(4), layer(4));
        let values = a.values().unwrap();
        assert_eq!(values.len(), 8);
        assert_eq!(values, b.values().unwrap());
        assert_ne!(values, layer(5).values().unwrap());
        b.set(&[0.5; 8]).unwrap();
        assert_eq!(b.values().unwrap(), [0.5; 8]);
    }
}
