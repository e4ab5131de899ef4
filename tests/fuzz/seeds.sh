#!/bin/sh
# Makes the seeds of the fuzz targets, corpus/TARGET, of the examples written for the tests: tests/reports/families/*.txt
# and tests/reports/mails. The targets' own finds are added to the same folders, which are not kept in the repository.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/report corpus/report_text
cp ../reports/mails/*.eml corpus/report/
# Whole mails, and their texts behind a digit that picks the header (see report_text.rs).
awk '
    /^=== / {
        if (n++) { close(mail); close(text) }
        mail = sprintf("corpus/report/example-%03d", n)
        text = sprintf("corpus/report_text/example-%03d", n)
        printf "" > mail
        printf "%d", n % 6 > text
        body = 0
        next
    }
    n { print > mail }
    n && body { print > text }
    n && /^$/ { body = 1 }
' ../reports/families/*.txt
ls corpus/report corpus/report_text | grep -c .
