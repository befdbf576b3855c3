"""What sentences of docs/paper.rst and docs/scaling_out.rst say of the committed results: change what fails here."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import tables

Rows = dict[str, dict]


@pytest.fixture(scope="module")
def rows_of() -> Callable[[str], Rows]:
    return lambda name: json.loads((tables.RESULTS / f"{name}.json").read_text())["results"]["rows"]


def mean_accuracy(rows: Rows, pair: str, budget: str) -> dict[str, float]:
    """Mean over the draws, in %, of each feature set."""
    own = [row["accuracy"] for key, row in rows.items() if key.startswith(f"{pair}/{budget}/")]
    return {name: 100 * float(np.mean([found[name] for found in own])) for name in own[0]}


class TestSpectra:
    @pytest.fixture
    def share(self, rows_of):
        """The share of the n leading components: ``share(model, state, fisher, n)``."""
        rows = rows_of("spectra")
        return lambda model, state, fisher, n: rows[f"{model}/{state}/{fisher}"]["explained_variance"][n - 1]

    @pytest.mark.parametrize("model, much", [("lenet5", True), ("dcgan, statistics of data", True), ("mlp", False)])
    def test_trained_models_are_steeper_with_the_division(self, share, model, much):
        assert all(share(model, "trained", "diag", n) > share(model, "untrained", "diag", n) for n in (1, 8, 32, 128))
        assert (share(model, "trained", "diag", 1) > 2 * share(model, "untrained", "diag", 1)) == much

    def test_without_the_division_the_leading_components_of_the_mlp_hold_more_before_training(self, share):
        assert all(share("mlp", "trained", "identity", n) < share("mlp", "untrained", "identity", n) for n in (1, 8))

    def test_with_statistics_of_samples_the_untrained_discriminator_has_the_larger_first_share(self, share, rows_of):
        first = share("dcgan", "untrained", "diag", 1)
        assert first > 1.5 * share("dcgan", "trained", "diag", 1)
        assert share("dcgan", "untrained", "identity", 1) == pytest.approx(
            share("dcgan", "trained", "identity", 1), rel=0.02
        )
        assert rows_of("spectra")["dcgan/untrained/diag"]["mean_shift"] > 0.9 * first

    def test_without_the_division_fewer_components_hold_as_much(self, rows_of):
        rows = rows_of("spectra")
        for key, row in rows.items():
            if key.endswith("/diag"):
                plain = rows[key.replace("/diag", "/identity")]["explained_variance"]
                assert all(a < b for a, b in zip(row["explained_variance"], plain, strict=True)), key


class TestGrowth:
    @pytest.fixture
    def ratio(self, rows_of):
        """Time of the Gram matrix over that of a fit, for N rows."""
        rows = rows_of("growth")

        def over(model: str, n_examples: int) -> float:
            row = rows[f"{model}/time/{n_examples}"]
            return row["gram_seconds"]["median"] / row["seconds"]["median"]

        return over

    def test_the_gram_matrix_is_faster_up_to_512_rows_and_as_fast_at_1024(self, ratio):
        for model in ("dcgan", "wrn40_2"):
            assert all(ratio(model, n_examples) < 0.7 for n_examples in (128, 256, 512))
            assert 0.85 < ratio(model, 1024) < 1.15
        assert ratio("dcgan", 2048) > 2

    def test_eight_times_the_rows_and_sixteen_times_the_components_take_5_times_as_long(self, rows_of):
        seconds = {key: row["seconds"]["median"] for key, row in rows_of("growth").items()}
        assert 4.5 < seconds["dcgan/time/4096"] / seconds["dcgan/time/512"] < 5.5
        assert 4.5 < seconds["dcgan/rank/128"] / seconds["dcgan/rank/8"] < 5.5


class TestEigenvalues:
    def test_the_defaults_and_the_paper_end_at_about_the_same_error_which_takes_the_paper_a_hundred_times_as_long(
        self, rows_of
    ):
        defaults, paper = (rows_of("eigenvalues")[way] for way in ("defaults", "paper"))
        assert (defaults["n_sweeps"], paper["n_sweeps"]) == (3, 22)
        assert round(100 * defaults["largest"], 1) == 1.4
        assert 0.8 < paper["largest"] / defaults["largest"] < 1.2
        assert 90 < paper["seconds"] / defaults["seconds"] < 110

    def test_a_fourth_sweep_brings_the_largest_error_below_a_thousandth_and_six_leave_rounding_alone(self, rows_of):
        rows = rows_of("eigenvalues")
        assert rows["sweeps=3"]["largest"] > 1e-3 > rows["sweeps=4"]["largest"]
        assert rows["sweeps=6"]["largest"] < 1e-6

    def test_the_leading_ones_have_millionths_only_where_a_tolerance_is_given(self, rows_of):
        for way, row in rows_of("eigenvalues").items():
            leading = max(row["relative_errors"][:8])
            if way in ("defaults", "tol=1e-4"):
                assert 1e-6 < leading < 1e-5
            elif way != "paper":
                assert leading < 2e-7


class TestInversion:
    def test_a_linear_map_reads_less_than_a_tenth_of_h_and_least_from_fisher_vectors(self, rows_of):
        for row in rows_of("inversion").values():
            r2 = {name: own["r2"] for name, own in row["latent"].items()}
            assert max(r2.values()) < 0.1
            assert min(r2, key=r2.get).startswith("NFK")

    def test_two_of_three_digits_are_kept_and_a_decoder_without_a_model_keeps_nearly_all(self, rows_of):
        for row in rows_of("inversion").values():
            kept = {name: own["label_agreement"] for name, own in row["real"].items()}
            through = {name: share for name, share in kept.items() if name.endswith("to G")}
            assert all(0.61 < share < 0.72 for share in through.values())
            nfk = next(share for name, share in through.items() if name.startswith("NFK"))
            assert sum(share > nfk for share in through.values()) >= 2
            assert kept["PCA decoding"] > 0.97

    def test_that_decoder_has_about_a_fifth_of_the_pixel_error_or_less(self, rows_of):
        for row in rows_of("inversion").values():
            errors = {name: own["pixel_error"] for name, own in row["real"].items()}
            assert all(errors["PCA decoding"] < 0.22 * errors[name] for name in errors if name.endswith("to G"))


class TestComponents:
    def test_ends_of_components_share_labels_more_often_than_those_of_activations_but_for_the_small_gan(self, rows_of):
        for key, row in rows_of("components").items():
            nfk, activations = (row["purity"][name] for name in ("NFK-128", "activations-PCA-128"))
            assert (nfk > activations) == (not key.startswith("mlp_gan/")), key

    def test_and_mostly_more_often_than_those_of_pixels(self, rows_of):
        purities = [row["purity"] for row in rows_of("components").values()]
        assert 0.5 < np.mean([own["NFK-128"] > own["PCA-128 of pixels"] for own in purities]) < 1


class TestRank:
    @pytest.fixture
    def gains(self, rows_of):
        """Points that 512 components have above fewer, by pair: ``gains(n, budget)``."""
        rows = rows_of("rank")
        pairs = [key for key, row in rows.items() if "accuracy" not in row]

        def above(n: int, budget: str) -> dict[str, float]:
            accuracies = {pair: mean_accuracy(rows, pair, budget) for pair in pairs}
            return {pair: max(own.values()) - own[f"NFK-{n}"] for pair, own in accuracies.items()}

        return above

    def test_with_ten_labels_a_class_64_components_do_nearly_as_well_but_for_the_resnet(self, gains):
        for pair, points in gains(64, "10").items():
            assert (points < 2) == (not pair.startswith("resnet20")), (pair, points)

    def test_with_all_labels_accuracy_still_grows_from_128_on(self, gains):
        much = ("lenet5/fashion", "resnet20/fashion", "mlp_gan/mnist")
        for pair, points in gains(128, "all").items():
            assert (2 <= points < 4.5) if pair in much else (0.5 < points < 2), (pair, points)


class TestTable1:
    @pytest.fixture
    def accuracies(self, rows_of):
        rows = rows_of("table1")
        pairs = [key for key, row in rows.items() if "accuracy" not in row]
        return {pair: mean_accuracy(rows, pair, "all") for pair in pairs}

    OF_ITS_OWN = ("vae/mnist", "conv_vae/cifar10")

    def test_256_components_come_within_two_points_of_the_whole_but_for_vaes_on_their_own_data(self, accuracies):
        for pair, own in accuracies.items():
            assert (own["full Fisher vector"] - own["NFK-256"] < 1.6) == (pair not in self.OF_ITS_OWN), pair

    def test_vaes_on_their_own_data_fail(self, accuracies):
        found = [[round(accuracy) for accuracy in accuracies[pair].values()] for pair in self.OF_ITS_OWN]
        assert list(accuracies["vae/mnist"]) == ["activations", "NFK-128", "NFK-256", "full Fisher vector"]
        assert found == [[86, 50, 55, 74], [35, 15, 17, 25]]

    def test_they_beat_the_activations_of_two_models_on_fashion_mnist(self, accuracies):
        gains = {pair: round(own["NFK-256"] - own["activations"], 1) for pair, own in accuracies.items()}
        assert 0.9 < gains["mlp_gan/fashion"] < 1.5
        assert 7.5 < gains["vae/fashion"] < 8.5
        assert -0.8 < gains["dcgan/fashion"] < -0.4

    def test_on_mnist_they_trail(self, accuracies):
        gains = {pair: own["NFK-256"] - own["activations"] for pair, own in accuracies.items()}
        assert -1.5 < gains["mlp_gan/mnist"] < -0.5 < 0
        assert -1.5 < gains["dcgan/mnist"] < -0.5


class TestTable2:
    LABELS = ("500", "1000", "2000", "4000")

    @pytest.fixture
    def leads(self, rows_of):
        """Points that the components are ahead of another set, for each number of labels."""
        rows = rows_of("semi_supervised")

        def over(pair: str, other: str) -> list[float]:
            own = [mean_accuracy(rows, pair, labels) for labels in self.LABELS]
            return [accuracies["NFK-128"] - accuracies[other] for accuracies in own]

        return over

    def test_on_mnist_components_trail_the_activations_and_beat_the_pixels(self, leads):
        for pair, low, high in (("mlp_gan/mnist", 1.4, 2.6), ("dcgan/mnist", 7.5, 11)):
            assert all(-2.5 < points < -0.5 for points in leads(pair, "activations"))
            assert all(low < points < high for points in leads(pair, "PCA-128 of pixels"))

    def test_on_fashion_mnist_the_small_gans_lead_the_activations_and_trail_the_pixels(self, leads):
        assert all(0.5 < points < 1.7 for points in leads("mlp_gan/fashion", "activations"))
        assert all(-3.5 < points < -1.9 for points in leads("mlp_gan/fashion", "PCA-128 of pixels"))

    def test_on_fashion_mnist_the_dcgans_lead_both_with_few_labels_and_the_activations_with_more(self, leads):
        few, more = np.split(np.array(leads("dcgan/fashion", "activations")), 2)
        assert (few > 0).all() and (more < -0.8).all()
        assert min(leads("dcgan/fashion", "PCA-128 of pixels")) > 0

    def test_self_training_adds_most_for_the_dcgan_with_500_labels_and_takes_from_the_small_gans(self, leads):
        gains = [-points for points in leads("dcgan/mnist", "NFK-128, self-training")]
        assert round(gains[0], 1) == 1.5
        assert all(0 < gain < 1 for gain in gains[1:])
        for data in ("mnist", "fashion"):
            gains = [-points for points in leads(f"mlp_gan/{data}", "NFK-128, self-training")]
            assert -1 < gains[0] < -0.3 and max(gains) < 0.1

    def test_errors_of_the_dcgan_on_mnist(self, rows_of):
        rows = rows_of("semi_supervised")
        errors = [100 - mean_accuracy(rows, "dcgan/mnist", labels)["NFK-128"] for labels in self.LABELS]
        assert [round(error, 1) for error in errors] == [7.4, 6.4, 5.6, 4.9]


class TestAblations:
    WELL_BEHAVED = ("mlp_gan/mnist", "lenet5/fashion", "resnet20/fashion")

    @pytest.fixture
    def gains(self, rows_of):
        """Points above the defaults, by option: ``gains(pair)``."""
        rows = rows_of("ablations")

        def above(pair: str) -> dict[str, float]:
            options = [key.rsplit("/", 1)[1] for key, row in rows.items() if "accuracy" not in row and pair in key]
            found = {option: mean_accuracy(rows, f"{pair}/{option}", "100")["NFK-128"] for option in options}
            return {option: accuracy - found["defaults"] for option, accuracy in found.items()}

        return above

    def test_without_the_division_classifiers_lose_and_the_small_gan_gains(self, gains):
        without = [round(gains(pair)["fisher=identity"], 1) for pair in self.WELL_BEHAVED]
        assert without[0] == 2.7
        assert all(-1.8 < points < -1.3 for points in without[1:])

    def test_other_options_move_the_probe_by_less_than_a_point_and_one_sweep_by_half(self, gains):
        for pair in self.WELL_BEHAVED:
            others = {option: points for option, points in gains(pair).items() if option != "fisher=identity"}
            assert max(map(abs, others.values())) < 1
            assert abs(others["sweeps=1"]) < 0.55

    def test_one_sweep_leaves_variance_out_and_from_four_on_nothing_changes(self, rows_of, gains):
        rows = rows_of("ablations")
        for pair in self.WELL_BEHAVED:
            shares = [rows[f"{pair}/sweeps={n}"]["explained_variance"]["128"] for n in range(1, 7)]
            assert 0.04 < shares[3] - shares[0] < 0.075
            assert shares[3] == shares[4] == shares[5]
            assert all(abs(gains(pair)[f"sweeps={n}"]) < 0.25 for n in (4, 5, 6))

    def test_the_vae_on_its_own_data_is_another_case(self, gains):
        points = gains("vae/mnist")
        assert round(points["damping=0"]) == 8
        assert round(points["center=False"]) == -6
        statistics = [value for option, value in points.items() if "reference" in option or "statistics" in option]
        assert all(-4 < value < -2 for value in statistics)


class TestScalingOut:
    def test_the_model_of_messages_misses_unseen_ones_by_39_percent_in_the_median_and_83_at_most(self, rows_of):
        errors = np.abs(rows_of("distributed")["messages"]["errors_of_unseen"])
        assert round(100 * float(np.median(errors))) == 39
        assert round(100 * float(errors.max())) == 83
