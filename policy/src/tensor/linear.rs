//! x · Wᵀ with a bias and a low-rank adapter.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail,
};

/// A matrix `[out, in]`, its bias `[out]` and its adapter.
#[derive(Clone)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    pub(super) adapter: Option<LowRank>,
}

/// scale · B · A, added to a matrix `[out, in]`.
#[derive(Clone)]
pub(super) struct LowRank {
    /// `[rank, in]`.
    pub(super) a: Tensor,
    /// `[out, rank]`.
    pub(super) b: Tensor,
    pub(super) scale: f64,
}

impl Linear {
    /// `[…, in]` → `[…, out]`, in the numbers of `x`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (out, width) = self.weight.dims2()?;
        let rows = x.reshape(((), width))?;
        let mut y = product(&rows, &self.weight)?;
        if let Some(LowRank { a, b, scale }) = &self.adapter {
            y = (y + (product(&product(&rows, a)?, b)? * *scale)?)?;
        }
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(&bias.to_dtype(x.dtype())?)?;
        }
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        y.reshape(dims)
    }

    /// The same layer with every tensor replaced.
    pub(super) fn map(&self, change: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let adapter = |LowRank { a, b, scale }: &LowRank| {
            Ok::<_, candle_core::Error>(LowRank { a: change(a)?, b: change(b)?, scale: *scale })
        };
        Ok(Self {
            weight: change(&self.weight)?,
            bias: self.bias.as_ref().map(change).transpose()?,
            adapter: self.adapter.as_ref().map(adapter).transpose()?,
        })
    }
}

fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if x.track_op() && !weight.track_op() {
        return x.apply_op1(Frozen { weight: weight.clone() });
    }
    x.matmul(&weight.to_dtype(x.dtype())?.t()?)
}

/// x · Wᵀ of a weight that does not learn. candle's own product would compute the gradient of `weight` too, a
/// matrix as large as the weight and half of the backward pass, for nothing.
struct Frozen {
    weight: Tensor,
}

impl Frozen {
    /// One product on any device: `take` finds the weight's storage of that device.
    fn forward<S: BackendStorage>(
        &self,
        x: &S,
        layout: &Layout,
        take: impl Fn(&Storage) -> Option<&S>,
    ) -> Result<(S, Shape)> {
        let (storage, weight) = self.weight.storage_and_layout();
        let Some(storage) = take(&storage) else {
            bail!("{} and its weight lie on two devices", self.name())
        };
        let ((rows, width), (out, _)) = (layout.shape().dims2()?, weight.shape().dims2()?);
        let y = x.matmul(storage, (1, rows, out, width), layout, &weight.transpose(0, 1)?)?;
        Ok((y, (rows, out).into()))
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(x, layout, |storage| match storage {
            Storage::Cpu(storage) => Some(storage),
            _ => None,
        })
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward(x, layout, |storage| match storage {
            Storage::Cuda(storage) => Some(storage),
            _ => None,
        })
    }

    fn metal_fwd(&self, x: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.forward(x, layout, |storage| match storage {
            Storage::Metal(storage) => Some(storage),
            _ => None,
        })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.matmul(&self.weight).map(Some)
    }
}
