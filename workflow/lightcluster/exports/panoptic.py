"""The panoptic format of COCO; background is void."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightcluster.exports.coco_json import head_of, write_json
from lightcluster.exports.protocol import Exporter, Options
from lightcluster.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightcluster.exports.segmentation import Segmentation


def panoptic_colors(label: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the picture of segment ids: id = R + 256 G + 65,536 B; uint8 [height, width, 3]."""
    import numpy as np

    return np.stack([label >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def write(segmentation: Segmentation, output: Path, options: Options) -> int:
    """Write ``panoptic.json`` and the PNGs of segment ids, ``panoptic/<output>``, into a folder."""
    from PIL import Image

    annotations, count = [], 0
    with replacing(output) as folder:
        folder.mkdir()
        for picture in segmentation.pictures():
            count += len(picture.regions)
            path = folder / "panoptic" / picture.row.output
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(panoptic_colors(picture.objects.label)).save(path, format="PNG")
            segments = [
                {
                    "id": index,
                    "category_id": region.category.id,
                    "area": region.area,
                    "bbox": list(region.box),
                    "iscrowd": 0,
                    **region.rated("score"),
                }
                for index, region in enumerate(picture.regions, start=1)
            ]
            annotations.append(
                {
                    "image_id": picture.number,
                    "file_name": picture.row.output,
                    "segments_info": segments,
                }
            )
        write_json(
            head_of(segmentation, options) | {"annotations": annotations}, folder / "panoptic.json"
        )
    return count


PANOPTIC = Exporter(
    name="panoptic", summary="COCO panoptic, a folder with a JSON file and PNGs", write=write
)
