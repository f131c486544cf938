"""To add a logger: a Logger, and an entry in LOGGERS."""

from clan.training.loggers import Logger


class CsvLogger(Logger):
    """Every number as a line "step,name,value"; a resumed run takes back what lies beyond its start."""

    package = "csv"

    def __init__(self, folder, start, options):
        super().__init__(folder, start, options)
        path = folder / "scalars.csv"
        lines = path.read_text().splitlines(keepends=True) if start and path.exists() else []
        self.file = path.open("w")
        self.file.writelines(line for line in lines if int(line.partition(",")[0]) <= start)

    def scalars(self, step, values):
        self.file.writelines(f"{step},{name},{value}\n" for name, value in values.items())

    def images(self, step, paths):
        """Numbers alone."""

    def _flush(self):
        self.file.flush()

    def close(self):
        self.file.close()
