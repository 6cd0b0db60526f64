import torch
import torch.nn.functional as F

from prunekit.models.street import street_net


def test_parameters_are_what_the_docstring_says():
    count = sum(parameter.numel() for parameter in street_net(11).parameters())
    assert round(count / 1e6, 3) == 0.942
    assert "0.942 M" in street_net.__doc__


def test_macs_are_what_the_docstring_says():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        street_net(11).eval()(torch.zeros(1, 3, 128, 192))
    assert round(counter.get_total_flops() / 2e9, 3) == 0.293
    assert "0.293 GMACs" in street_net.__doc__


def test_one_image_a_batch_trains():
    torch.manual_seed(0)
    street_net(3, width=8).train()(torch.randn(1, 3, 64, 64)).sum().backward()


def test_learns_a_batch_under_bf16_autocast():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = street_net(3, width=8).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 3, (4, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = F.one_hot(labels, 3).permute(0, 3, 1, 2).float() + 0.3 * torch.randn(4, 3, 64, 64)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16):
            logits = F.interpolate(network(images), (64, 64), mode="bilinear")
        loss = F.cross_entropy(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        predicted = F.interpolate(network.eval()(images), (64, 64), mode="bilinear").argmax(1)
    assert (predicted == labels).float().mean() > 0.8
