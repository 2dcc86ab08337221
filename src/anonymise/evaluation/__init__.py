"""Ground truth and what a run hid → numbers, files and pictures.

- `truth`, `label_images`, `coco_annotations`: what really is in an image, from its annotation.
- `tally`: one image → counts. `evaluation`: the counts of all images → shares. `intervals`: how sure they are.
- `average_precision`: COCO's measures, by its own code.
- `finders`: what was hidden, by the model, by masks, or by saved instances.
- `report`, `plots`, `gallery`, `page`: an evaluation → text, JSON, CSV, and a page with plots.
- `job`: folders → all of that, written to files.

No drawing of masks. ``docs/evaluation.md`` says what the numbers mean.
"""
