"""Tensors as they are read, held against what the index says of them."""

import unittest

import latentrace
import numpy as np

from . import made


def setUpModule() -> None:
    made.program()


class Tensors(unittest.TestCase):
    def setUp(self) -> None:
        self.run = latentrace.run(made.run())

    def test_every_tensor_has_the_numbers_that_its_line_describes(self) -> None:
        seen = set()
        for run in (self.run, latentrace.run(made.run_in_bf16())):
            for entry in run.entries:
                if "stored" not in entry or entry["kept"].startswith(("topk", "histogram")):
                    continue
                form, said = entry["stored"]["dtype"], entry["statistics"]
                where = {name: entry[name] for name in ("call", "branch", "image", "kept")}
                numbers = run.tensor(entry["tap"], **where)
                self.assertEqual(list(numbers.shape), entry["shape"])
                self.assertTrue(numbers.flags.writeable)
                exact = numbers.astype("f8")
                found = {"mean": exact.mean(), "min": exact.min(), "max": exact.max()}
                found["rms"] = np.sqrt(np.square(exact).mean())
                low, high = said["min"], said["max"]
                rounding = {"U8": (high - low) / 500, "F16": 1e-3 * max(-low, high)}.get(form, 1e-6 * max(-low, high))
                for name, value in found.items():
                    self.assertAlmostEqual(value, said[name], delta=rounding + 1e-30, msg=f"{entry['tap']} {name}")
                seen.add((form, str(numbers.dtype)))
        formats = {("F32", "float32"), ("F16", "float16"), ("U8", "float32"), ("BF16", "float32")}
        self.assertEqual(seen, formats)

    def test_the_sampler_is_a_sum_of_what_was_recorded(self) -> None:
        sample, epsilon, denoised = (
            self.run.tensor(f"sampler.{name}", step=1) for name in ("sample", "epsilon.guided", "denoised")
        )
        sigma = next(entry["sigma"] for entry in self.run.entries if entry["step"] == 1)
        np.testing.assert_allclose(sample - np.float32(sigma) * epsilon, denoised, atol=1e-4)

    def test_topk_has_the_largest_numbers_and_their_places(self) -> None:
        where = {"call": 2, "branch": "cond"}
        kept = self.run.tensor("unet.conv_norm_out", kept="topk(4)", **where)
        places = self.run.places("unet.conv_norm_out", kept="topk(4)", **where)
        whole = self.run.tensor("unet.conv_norm_out", kept="f16", **where).ravel()
        self.assertEqual((kept.shape, places.shape, places.dtype), ((1, 4), (1, 4), np.int64))
        np.testing.assert_allclose(whole[places[0]], kept[0], rtol=1e-3)
        self.assertGreaterEqual(np.abs(kept).min() * 1.001, np.sort(np.abs(whole))[-4])

    def test_a_histogram_counts_every_number(self) -> None:
        counts = self.run.tensor("unet.conv_norm_out", call=2, branch="cond", kept="histogram(8)")
        whole = self.run.tensor("unet.conv_norm_out", call=2, branch="cond", kept="f16")
        self.assertEqual((counts.shape, counts.sum()), ((1, 8), whole.size))

    def test_a_stack_has_the_last_call_of_every_step(self) -> None:
        stack = self.run.stack("unet.mid_block.out", branch="cond")
        self.assertEqual(stack.shape, (4, *self.run.tensor("unet.mid_block.out", call=0, branch="cond").shape))
        # PNDM has two calls in its first step.
        np.testing.assert_array_equal(stack[0], self.run.tensor("unet.mid_block.out", call=1, branch="cond"))
        np.testing.assert_array_equal(stack[3], self.run.tensor("unet.mid_block.out", step=3, branch="cond"))

    def test_a_tensor_that_is_not_there_or_not_the_only_one_is_an_error_that_says_what_there_is(self) -> None:
        mid = "unet.mid_block.out"
        for hint, asked in {
            "say step= (0 to 3)": lambda: self.run.tensor(mid, branch="cond"),
            "say evaluation= (0, 1)": lambda: self.run.tensor(mid, step=0, branch="cond"),
            "branch= ('cond', 'uncond')": lambda: self.run.tensor(mid, step=1),
            "kept= ('f16', 'histogram(8)', 'topk(4)')": lambda: self.run.stack("unet.conv_norm_out", branch="cond"),
            "recorded are step 0 to 3": lambda: self.run.tensor(mid, step=4, branch="cond"),
            "step 0 to 3; branch 'cond', 'uncond'": lambda: self.run.tensor(mid, step=1, branch="conditional"),
            "recorded are branch none": lambda: self.run.tensor("sampler.sample", branch="cond"),
            "near names: unet.mid_block.out": lambda: self.run.tensor("unet.mid_block"),
            "only its statistics were kept": lambda: self.run.tensor("unet.conv_in", step=1, branch="cond"),
            "it has no places: it is kept whole": lambda: self.run.places(mid, step=1, branch="cond"),
        }.items():
            with self.subTest(hint), self.assertRaises(latentrace.Absent) as raised:
                asked()
            self.assertIn(hint, str(raised.exception))
            self.assertIn(str(made.run() / "trace"), str(raised.exception))

    def test_the_index_is_a_table(self) -> None:
        table = self.run.tensors()
        self.assertEqual(len(table), len(self.run.entries))
        mid = table[(table["tap"] == "unet.mid_block.out") & (table["branch"] == "cond")]
        self.assertEqual(list(mid["call"]), [0, 1, 2, 3, 4])
        rms = [np.sqrt(np.square(self.run.tensor("unet.mid_block.out", call=call, branch="cond").astype("f8")).mean())
               for call in range(5)]
        np.testing.assert_allclose(mid["rms"], rms, rtol=1e-6)
        self.assertEqual(set(table[table["tap"] == "unet.conv_in"]["stored"]), {False})
        self.assertTrue(table[table["tap"] == "sampler.sample"]["branch"].isna().all())

    def test_settings_numbers_and_picture_are_those_of_the_run(self) -> None:
        settings = self.run.settings
        prompt = "a large red circle on the left, white background"
        self.assertEqual((settings["prompt"], settings["steps"], settings["seed"]), (prompt, 4, 193))
        self.assertEqual(self.run.description["scheduler"]["_class_name"], "PNDMScheduler")
        self.assertEqual(self.run.about["calls"], self.run.calls)
        self.assertEqual((self.run.state, self.run.calls, self.run.problems), ("finished", 5, []))
        self.assertEqual(np.asarray(self.run.picture()).shape, (128, 128, 3))
        scalars = self.run.scalars()
        self.assertEqual((len(scalars), scalars["call"].dtype, scalars["sigma"].dtype), (5, "int64", "float64"))
        sample = self.run.tensor("sampler.sample", call=2).astype("f8")
        self.assertAlmostEqual(scalars["rms_x"][2], np.sqrt(np.square(sample).mean()), places=5)

    def test_a_run_is_found_by_its_folder_its_record_and_its_picture(self) -> None:
        for path in (made.run(), made.run() / "trace", made.run() / "image.png", str(made.run())):
            run = latentrace.run(path)
            self.assertEqual((run.folder, run.name), (made.run(), made.run().name))
            self.assertEqual(run.picture().size, (128, 128))


if __name__ == "__main__":
    unittest.main()
