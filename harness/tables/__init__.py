"""Tables of images: one reader for data sets, files of embeddings, and labels that come back from a person."""

from harness.messages import closest, has_commands
from harness.tables.formats import ImageTable, is_image_name, read_table
from harness.tables.listing import (
    SPLIT_WORDS,
    Columns,
    Listing,
    Row,
    class_names,
    list_images,
    loose_names,
    names_of,
    plain_path,
    said_of_columns,
    said_of_no_label,
    said_of_no_split,
    split_called,
    splits_named,
    text_of,
)  # fmt: skip

__all__ = [
    "SPLIT_WORDS",
    "Columns",
    "ImageTable",
    "Listing",
    "Row",
    "class_names",
    "closest",
    "has_commands",
    "is_image_name",
    "list_images",
    "loose_names",
    "names_of",
    "plain_path",
    "read_table",
    "said_of_columns",
    "said_of_no_label",
    "said_of_no_split",
    "split_called",
    "splits_named",
    "text_of",
]
