#!/usr/bin/env python3
"""PyTorch peer of one segmentation training step and of sliding-window inference, written for timing only.

Same work as `benches/segment.rs`: a ViT with patchwise-scale adapters, relative position biases, layer scale and drop path;
a pyramid of four maps; UPerNet (768 channels, pools of 1, 2, 3 and 6) and an auxiliary FCN (256 channels, weight 0.4);
cross-entropy at the size of the labels; AdamW. Uses PyTorch's fast paths (fused attention with the bias as its mask, oneDNN
convolutions, fused AdamW), so that it is a fair opponent. Plain torch, nothing else. Prints one JSON line.

    python upernet_torch.py --work full --batch 2 --crop 128 --threads 2 --steps 3
    --work full | frozen | slide    everything trains; adapters and heads train; inference in windows
"""
import argparse, json, resource, time

import torch
import torch.nn.functional as F
from torch import nn

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


class Layer(nn.Module):
    """Pre-norm transformer layer with a position bias, layer scale, drop path, and a gated bottleneck beside the MLP."""

    def __init__(self, dim, heads, grid, drop, hidden=64):
        super().__init__()
        self.heads, self.drop = heads, drop
        self.ln_a, self.ln_m = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.to_qkv, self.to_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up_mlp, self.down_mlp = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma_a, self.gamma_m = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))
        self.table = nn.Parameter(torch.zeros((2 * grid - 1) ** 2 + 3, heads))
        self.adapter = nn.ModuleDict(dict(norm=nn.LayerNorm(dim), down=nn.Linear(dim, hidden),
                                          up=nn.Linear(hidden, dim), gate=nn.Linear(2 * dim, 1, bias=False)))

    def path(self, x):
        if not self.training or self.drop == 0:
            return x
        keep = 1 - self.drop
        return x * (torch.rand(len(x), 1, 1) < keep) / keep

    def forward(self, x, places):
        b, n, c = x.shape
        q, k, v = self.to_qkv(self.ln_a(x)).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.table[places].view(n, n, self.heads).permute(2, 0, 1)[None]
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(b, n, c)
        x = x + self.path(self.gamma_a * self.to_out(a))
        m = self.down_mlp(F.gelu(self.up_mlp(self.ln_m(x))))
        p = self.adapter
        h = p["up"](F.dropout(F.relu(p["down"](p["norm"](x))), 0.1, self.training))
        return x + h * torch.sigmoid(p["gate"](torch.cat([m, h], -1))) + self.path(self.gamma_m * m)


def places(grid):
    """Row of the table for every pair of tokens, class token first."""
    rows = (2 * grid - 1) ** 2 + 3
    y, x = torch.arange(grid).repeat_interleave(grid), torch.arange(grid).repeat(grid)
    out = torch.empty(grid * grid + 1, grid * grid + 1, dtype=torch.long)
    out[1:, 1:] = (y[:, None] - y + grid - 1) * (2 * grid - 1) + x[:, None] - x + grid - 1
    out[0, 1:], out[1:, 0], out[0, 0] = rows - 3, rows - 2, rows - 1
    return out.flatten()


def conv(inputs, outputs, kernel):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs),
                         nn.ReLU())


class Upernet(nn.Module):
    POOLS = (1, 2, 3, 6)

    def __init__(self, dim, depth, heads, crop, classes, channels=768, patch=16):
        super().__init__()
        self.grid = crop // patch
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.pos = nn.Parameter(torch.randn(1, self.grid ** 2 + 1, dim) * 0.02)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.layers = nn.ModuleList(Layer(dim, heads, self.grid, 0.1 * i / (depth - 1)) for i in range(depth))
        self.taps = [depth // 3 - 1, depth // 2 - 1, 2 * depth // 3 - 1, depth - 1]
        self.register_buffer("places", places(self.grid))
        self.up4 = nn.Sequential(nn.ConvTranspose2d(dim, dim, 2, 2), nn.BatchNorm2d(dim), nn.GELU(),
                                 nn.ConvTranspose2d(dim, dim, 2, 2))
        self.up2 = nn.ConvTranspose2d(dim, dim, 2, 2)
        self.pools = nn.ModuleList(conv(dim, channels, 1) for _ in self.POOLS)
        self.bottleneck = conv(dim + 4 * channels, channels, 3)
        self.lateral = nn.ModuleList(conv(dim, channels, 1) for _ in range(3))
        self.smooth = nn.ModuleList(conv(channels, channels, 3) for _ in range(3))
        self.fuse = conv(4 * channels, channels, 3)
        self.classify = nn.Conv2d(channels, classes, 1)
        self.aux, self.aux_classify = conv(dim, 256, 3), nn.Conv2d(256, classes, 1)

    def maps(self, images):
        b = len(images)
        x = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(b, -1, -1), x], 1) + self.pos
        out = []
        for i, layer in enumerate(self.layers):
            x = layer(x, self.places)
            if i in self.taps:
                out.append(x[:, 1:].transpose(1, 2).reshape(b, -1, self.grid, self.grid))
        return [self.up4(out[0]), self.up2(out[1]), out[2], F.max_pool2d(out[3], 2)]

    def decode(self, maps):
        resize = lambda x, to: F.interpolate(x, to.shape[2:], mode="bilinear", align_corners=False)
        last = maps[3]
        pooled = [resize(c(F.adaptive_avg_pool2d(last, s)), last) for s, c in zip(self.POOLS, self.pools)]
        above = self.bottleneck(torch.cat([last] + pooled, 1))
        outs = [above]
        for i in (2, 1, 0):
            lateral = self.lateral[i](maps[i])
            above = lateral + resize(above, lateral)
            outs.insert(0, self.smooth[i](above))
        fused = self.fuse(torch.cat([outs[0]] + [resize(x, outs[0]) for x in outs[1:]], 1))
        return self.classify(F.dropout2d(fused, 0.1, self.training))

    def losses(self, images, labels):
        maps = self.maps(images)
        loss = lambda x: F.cross_entropy(
            F.interpolate(x, labels.shape[1:], mode="bilinear", align_corners=False), labels, ignore_index=255)
        aux = self.aux_classify(F.dropout2d(self.aux(maps[2]), 0.1, self.training))
        return loss(self.decode(maps)) + 0.4 * loss(aux)

    def logits(self, images):
        return F.interpolate(self.decode(self.maps(images)), images.shape[2:], mode="bilinear", align_corners=False)


def slide(model, image, window, classes):
    """Logits averaged over windows two thirds of a side apart; the last one moved back to the border."""
    height, width = image.shape[2:]
    stride = 2 * window // 3
    corners = lambda side: [min(i * stride, side - window) for i in range(-(-(side - window) // stride) + 1)]
    sums, counts = torch.zeros(1, classes, height, width), torch.zeros(1, 1, height, width)
    for top in corners(height):
        for left in corners(width):
            part = (..., slice(top, top + window), slice(left, left + window))
            sums[part] += model.logits(image[part])
            counts[part] += 1
    return sums / counts


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--model", default="base", choices=SIZES)
    a.add_argument("--work", default="full", choices=["full", "frozen", "slide"])
    a.add_argument("--batch", type=int, default=2)
    a.add_argument("--crop", type=int, default=128)
    a.add_argument("--image", default="256,320")
    a.add_argument("--classes", type=int, default=21)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--steps", type=int, default=3)
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    training = a.work != "slide"
    model = Upernet(*SIZES[a.model], a.crop, a.classes).train(training)
    if a.work == "frozen":
        for p in [*model.embed.parameters(), model.pos, model.cls]:
            p.requires_grad = False
        for layer in model.layers:
            for name, p in layer.named_parameters():
                p.requires_grad = name.startswith("adapter")
    trained = [p for p in model.parameters() if p.requires_grad]
    seconds = []
    if training:
        optimizer = torch.optim.AdamW(trained, 1e-5, weight_decay=0.05, fused=True)
        images = torch.randn(a.batch, 3, a.crop, a.crop)
        labels = (torch.arange(a.batch * a.crop * a.crop) // 37 % a.classes).view(a.batch, a.crop, a.crop)
    else:
        images = torch.randn(1, 3, *map(int, a.image.split(",")))
    for step in range(a.steps + 1):
        start = time.perf_counter()
        if training:
            loss = model.losses(images, labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
        else:
            with torch.inference_mode():
                slide(model, images, a.crop, a.classes).argmax(1).flatten()[0].item()
        if step:
            seconds.append(time.perf_counter() - start)
    seconds.sort()
    print(json.dumps(dict(peer="pytorch " + torch.__version__, work=a.work, model=a.model,
                          batch=a.batch if training else 1, crop=a.crop, threads=a.threads,
                          seconds=round(seconds[len(seconds) // 2], 4),
                          peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                          trained=sum(p.numel() for p in trained) if training else 0)))


if __name__ == "__main__":
    main()
