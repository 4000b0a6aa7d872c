"""Seeds: stable, and different for whatever differs."""

import itertools

from pipeline.stream.seeds import fold_in, shuffle_seed, training_seed, view_seed


def test_the_seed_of_a_purpose_never_changes():
    # The numbers are part of what a run promises: a resumed run draws what the first would have.
    assert fold_in("train", 7, 0, 1) == 7282242764263721717
    assert shuffle_seed(7, 0) == 919237191350710514


def test_seeds_differ_for_every_run_epoch_and_op():
    seeds = [training_seed(*key) for key in itertools.product(range(10), repeat=3)]
    assert len(set(seeds)) == 1000


def test_a_view_draws_what_no_epoch_of_training_draws():
    keys = list(itertools.product(range(10), repeat=3))
    views = {view_seed(*key) for key in keys}
    assert len(views) == 1000
    assert not views & {training_seed(*key) for key in keys}


def test_joined_numbers_are_not_mistaken_for_others():
    assert fold_in(1, 23) != fold_in(12, 3)


def test_an_order_seed_is_not_negative():
    assert all(shuffle_seed(run, epoch) >= 0 for run in range(20) for epoch in range(20))
