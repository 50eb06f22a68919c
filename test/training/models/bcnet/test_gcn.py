import math

import numpy as np
import pytest
import torch

from training.models.bcnet.gcn import GraphConvolution


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("scaled", [False, True])
def test_graph_convolution_is_equations_1_to_3_in_a_loop(norm, scaled):
    torch.manual_seed(0)
    K, h, w = 5, 3, 4
    graph = GraphConvolution(K, norm=norm, scaled=scaled).double().eval()
    for value in graph.norm.parameters():
        torch.nn.init.normal_(value)
    if norm == "batch":
        graph.norm.running_mean.normal_()
        graph.norm.running_var.uniform_(0.5, 2.0)
    image = torch.randn(1, K, h, w, dtype=torch.float64)
    with torch.no_grad():
        found = graph(image)[0].flatten(1).T.numpy()

    nodes = image[0].flatten(1).T.numpy()  # X, [N, K]
    theta, phi, g, out = (
        getattr(graph, name).weight.detach()[:, :, 0, 0].numpy()
        for name in ("theta", "phi", "g", "out")
    )
    W_g = (out @ g).T
    for i, x_i in enumerate(nodes):
        similarity = [(theta @ x_i) @ (phi @ x_j) for x_j in nodes]
        if scaled:
            similarity = [s / math.sqrt(K) for s in similarity]
        total = sum(math.exp(s) for s in similarity)
        gathered = sum(math.exp(s) / total * (x_j @ W_g) for s, x_j in zip(similarity, nodes))
        gamma, beta = (p.detach().numpy() for p in (graph.norm.weight, graph.norm.bias))
        if norm == "batch":
            mean, variance = graph.norm.running_mean.numpy(), graph.norm.running_var.numpy()
            sigma = (gathered - mean) / np.sqrt(variance + 1e-4) * gamma + beta
        else:
            centred = gathered - gathered.mean()
            sigma = centred / np.sqrt((centred**2).mean() + 1e-5) * gamma + beta
            sigma = np.maximum(sigma, 0)
        np.testing.assert_allclose(found[i], sigma + x_i, rtol=1e-9, atol=1e-9)
