import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Small products cost less than handing them to a second thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
