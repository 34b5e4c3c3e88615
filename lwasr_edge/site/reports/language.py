"""Every text of reports, one table for each language; both have the same keys and the same values in braces."""

from __future__ import annotations

from typing import Any

from lwasr_edge.site.remark import Remark

ENGLISH = {
    # why a recording, or a row of a table, is not used
    "broken_link": "a link to nothing",
    "link_outside": "a link out of the folder: copy the file into it",
    "link_folder": "a link to a folder, which is not followed: copy it, or name it as the folder",
    "folder_unreadable": "a folder that cannot be read ({why}): its recordings are not known",
    "same_name": "the name of {file} but for capitals or accents: rename one",
    "same_take": "has the text of {file}, which is used: the same take in another format",
    "no_file": "not a regular file",
    "text_unreadable": "its text {file} cannot be read: {why}",
    "text_too_long": "the text in {file} is longer than {most} characters",
    "row_without_file": "no file is named",
    "row_no_file": "there is no recording {file} in the folder",
    "row_ambiguous": "{count} recordings are named {file}: write the sub-folder too",
    "row_no_entry": "no recording is described: {why}",
    "two_texts": "another text for {file}; that of {other} is used",
    "part_impossible": "the part {part} is none: write its start and a later end in seconds",
    "kaldi_command": "a command, which is not run: write the path of a file",
    "unreadable": "unreadable: {why}",
    "duplicate": "the same recording as {file}",
    "empty_text": "empty text: write what is said, or remove the text file",
    "unspeakable": "characters that cannot be spoken: {characters}",
    "nothing_spoken": "no word in its text",
    "too_long": "too long: cut it into parts of at most {minutes} minutes",
    "too_quiet": "too quiet: the speech is {db} dB below full scale",
    "clipped": "clipped in {percent} % of the speech: lower the gain and record it again",
    "no_speech": "no speech: silence or steady noise",
    "cut_off": "damaged: {percent} % of the file can be read, and the text is of all of it: copy or record it again",
    "text_of_other": "wrong words: what was recognised is the text of {file}",
    "wrong_text": "wrong words: the text and what was recognised have almost nothing in common",
    # about the folder
    "spreadsheet": "{file} was not read: save it as CSV",
    "table_unreadable": "{file} was not read: {why}",
    "table_columns": "{file} names recordings but was not read: call the column with what is said in them `text`",
    "table_guessed": "{file}: column {file_column} was read as the recordings, column {text_column} as what is said "
    "in them",
    "table_too_long": "{file}: only the first {most} rows were read",
    "retention_over": "the retention in consent.json ended on {date}: run lwasr site erase",
    "list_unused": "the word list was not tried: it has no phrase that the model can write, or no recording has a text",
    # what to do about the sound
    "advice_clipped": "clipped in {percent} % of the speech: lower the gain",
    "advice_low": "microphone {db} dB too low: raise the gain, or go closer",
    "advice_high": "microphone {db} dB too high: lower the gain",
    "advice_noise": "noise only {db} dB below the speech: go closer, or use a directional microphone",
    "advice_rate": "recorded at {hz} Hz: record at 16000 Hz or more",
    "advice_damaged": "damaged: {why}",
    # the verdict
    "verdict_no_texts": "Nothing can be said about errors, as no recording has a usable text: write beside some "
    "recordings what is said in them.",
    "verdict_collect": "Collect {minutes} more minutes: there are {rate} errors in a hundred words, but so few recordings "
    "leave anything from {low} to {high} possible.",
    "verdict_good": "Good enough: {rate} errors in a hundred words ({low} to {high}), at most {target} were asked for.",
    "verdict_try_list": "Try a word list: there are {rate} errors in a hundred words ({low} to {high}); write the names "
    "and terms of the site into a file and run this again with --words.",
    "verdict_use_list": "Use the word list: with it there are {after} errors in a hundred words, at most {target} were "
    "asked for.",
    "verdict_collect_to_adapt": "Collect {minutes} more minutes and adapt the model: the word list does not help, and there are {rate} errors in a hundred words ({low} to {high}).",
    "verdict_collect_to_adapt_with_list": "Use the word list, collect {minutes} more minutes and adapt the model: with "
    "the list there are {after} errors in a hundred words, at most {target} were asked for.",
    "verdict_adapt": "Adapt the model: the word list does not help, and there are {rate} errors in a hundred words "
    "({low} to {high}).",
    "verdict_adapt_with_list": "Use the word list and adapt the model: with the list there are {after} errors in a hundred "
    "words, at most {target} were asked for.",
    # headings and labels
    "title": "Speech recognition check",
    "verdict": "Verdict",
    "folder": "Folder",
    "model": "Model",
    "board": "Computer",
    "date": "Date",
    "errors": "Errors in a hundred words",
    "errors_line": "{rate} (95 % interval {low} to {high}): {errors} errors in {words} words of {recordings} recordings, "
    "{minutes} minutes",
    "interval_note": "The interval is for other recordings of the same kind. It comes from drawing the recordings again "
    "(bootstrap), and is never narrower than Wilson's interval for this number of words.",
    "speed": "Speed on this computer",
    "speed_line": "{rtf} s of processing for each second of speech: {times} times faster than real time",
    "speed_slow": "{rtf} s of processing for each second of speech: slower than real time, use a smaller model",
    "list": "Word list",
    "list_line": "errors in a hundred words: {before} without the list, {after} with it (difference {low} to {high}), in "
    "{recordings} recordings",
    "list_chosen": "The strength, {strength}, was chosen on {count} other recordings: every third one by name. They are "
    "not in these figures.",
    "list_chosen_speakers": "The strength, {strength}, was chosen on {count} recordings of other speakers: every third "
    "one. They are not in these figures.",
    "list_default": "The strength is the default, {strength}: there are too few recordings to choose another.",
    "list_left_out": "The model cannot write: {phrases}",
    "list_not_said": "In no recording: {phrases}",
    "phrase": "Word or phrase",
    "said_times": "Said",
    "found_before": "Recognised without the list",
    "found_after": "Recognised with the list",
    "false_alarms": "Recognised, not said",
    "missed": "Words missed most often (without the list)",
    "missed_times": "Missed",
    "worst": "The worst recordings",
    "said": "Said",
    "recognised": "Recognised",
    "legend": "Red: said, not recognised. Blue: recognised, not said.",
    "no_errors": "There is no error in any recording.",
    "player_linked": "The players use the files of the folder; this page has no sound in it. --with-audio puts it in.",
    "player_embedded": "This page has the voices of speakers in it. Keep it, and erase it, as you do with recordings.",
    "sound": "Level, noise and clipping",
    "sound_note": "Levels in dB below full scale; the band is a good level of speech.",
    "recording": "Recording",
    "length": "Seconds",
    "level": "Speech, dB",
    "noise": "Noise, dB",
    "snr": "Difference, dB",
    "clipping": "Clipped, %",
    "advice": "What to do",
    "no_advice": "Nothing: level, noise and clipping are good.",
    "advice_count": "recordings: {count}; {advice}",
    "refused": "Not used",
    "reason": "Reason",
    "none_refused": "Every recording was used.",
    "changes": "Texts that were changed",
    "before": "Written",
    "after": "As it is spoken",
    "changes_line": "numbers, symbols and tags were written as they are spoken (texts: {count})",
    "errors_of": "{errors} of {words} words",
    "without_text": "without text",
    "texts_hidden": "--texts shows what was said and recognised",
    "private": "This page has what the speakers said in it.",
    "counts": "{used} recordings used ({texts} with texts), {refused} not used",
    # of `lwasr-train site`
    "adapted_title": "A model of this site",
    "adapted_better": "Install {name}: on recordings that it was not trained on, it makes fewer errors than {model}, and "
    "the difference is more than chance.",
    "adapted_kept": "Keep {model}: adaptation brought no gain that is more than chance. Collect more recordings, of more "
    "speakers, or try a word list.",
    "adapted_forgot": "Keep {model}: the adapted model is better at the site, but it lost too much on general speech. "
    "Collect more recordings, or allow the loss with --max-general-loss.",
    "adapted_set": "Recordings that were held out",
    "adapted_before": "Before",
    "adapted_after": "After",
    "adapted_difference": "Difference, 95 % interval",
    "adapted_words": "Words",
    "adapted_line": "{set}: {before} before, {after} after (difference {low} to {high}; {words} words of {recordings} "
    "recordings)",
    "adapted_note": "The interval comes from drawing the recordings again, each with its errors before and after (paired "
    "bootstrap). Where it does not reach 0, the difference is more than chance.",
    "adapted_choice": "Which weights",
    "adapted_step": "Training step",
    "adapted_share": "Share of the way from the old weights to those of this step",
    "adapted_choice_note": "Errors in a hundred words on the recordings that choose, which are neither trained on nor "
    "compared above. A smaller share forgets less.",
    "adapted_data": "Data statement",
    "set_site": "the site",
    "set_site_list": "the site, with the word list",
    "set_noise": "general speech in the site's noise, 0 to 10 dB",
    "set_general": "general speech",
}

JAPANESE = {
    "broken_link": "リンク先がありません",
    "link_outside": "フォルダーの外へのリンクです。ファイルをフォルダーにコピーしてください",
    "link_folder": "フォルダーへのリンクは開きません。コピーするか、そのフォルダーを指定してください",
    "folder_unreadable": "フォルダーを読めません ({why})。中の録音は分かりません",
    "same_name": "{file} と大文字小文字かアクセントだけが違う名前です。どちらかの名前を変えてください",
    "same_take": "{file} と同じテキストの別形式の録音です。{file} を使いました",
    "no_file": "通常のファイルではありません",
    "text_unreadable": "テキスト {file} を読めません: {why}",
    "text_too_long": "{file} のテキストが {most} 文字を超えています",
    "row_without_file": "ファイル名がありません",
    "row_no_file": "録音 {file} がフォルダーにありません",
    "row_ambiguous": "{file} という録音が {count} 件あります。サブフォルダー名も書いてください",
    "row_no_entry": "録音の記述ではありません: {why}",
    "two_texts": "{file} に別のテキストがあります。{other} のテキストを使いました",
    "part_impossible": "{part} という部分はありません。開始とそれより後の終了を秒で書いてください",
    "kaldi_command": "コマンドは実行しません。ファイルのパスを書いてください",
    "unreadable": "読めません: {why}",
    "duplicate": "{file} と同じ録音です",
    "empty_text": "テキストが空です。話した言葉を書くか、テキストファイルを消してください",
    "unspeakable": "発音できない文字があります: {characters}",
    "nothing_spoken": "テキストに言葉がありません",
    "too_long": "長すぎます。{minutes} 分以下に分けてください",
    "too_quiet": "音が小さすぎます。声の大きさが最大値より {db} dB 下です",
    "clipped": "声の {percent} % で音が割れています。感度を下げて録り直してください",
    "no_speech": "声がありません。無音か一定の雑音です",
    "cut_off": "破損しています。ファイルの {percent} % しか読めません。コピーし直すか録り直してください",
    "text_of_other": "言葉が違います。認識結果は {file} のテキストです",
    "wrong_text": "言葉が違います。テキストと認識結果がほとんど一致しません",
    "spreadsheet": "{file} は読みませんでした。CSV で保存してください",
    "table_unreadable": "{file} は読みませんでした: {why}",
    "table_columns": "{file} には録音の名前がありますが、読みませんでした。発話の列の見出しを text にしてください",
    "table_guessed": "{file}: {file_column} 列目を録音、{text_column} 列目を発話として読みました",
    "table_too_long": "{file}: 最初の {most} 行だけを読みました",
    "retention_over": "consent.json の保存期限 {date} を過ぎています。lwasr site erase を実行してください",
    "list_unused": "単語リストは試しませんでした。モデルが書ける語句がないか、テキストのある録音がありません",
    "advice_clipped": "声の {percent} % で音が割れています。感度を下げてください",
    "advice_low": "マイクが {db} dB 小さすぎます。感度を上げるか、近づいてください",
    "advice_high": "マイクが {db} dB 大きすぎます。感度を下げてください",
    "advice_noise": "雑音が声より {db} dB しか小さくありません。近づくか、指向性マイクを使ってください",
    "advice_rate": "{hz} Hz で録音されています。16000 Hz 以上で録音してください",
    "advice_damaged": "破損しています: {why}",
    "verdict_no_texts": "使えるテキストのある録音がないため、誤りは測れません。話した言葉を録音の横に書いてください。",
    "verdict_collect": "あと {minutes} 分録音してください。100 語あたりの誤りは {rate} ですが、録音が少なく、{low} から {high} "
    "のどれもありえます。",
    "verdict_good": "十分です。100 語あたりの誤りは {rate} ({low} から {high})、目標は {target} 以下です。",
    "verdict_try_list": "単語リストを試してください。100 語あたりの誤りは {rate} ({low} から {high}) です。"
    "現場の名前や用語をファイルに書き、--words を付けてもう一度実行してください。",
    "verdict_use_list": "単語リストを使ってください。使うと 100 語あたりの誤りは {after}、目標は {target} 以下です。",
    "verdict_collect_to_adapt": "あと {minutes} 分録音し、モデルを適応させてください。単語リストに効果はなく、100 語あたりの誤りは "
    "{rate} ({low} から {high}) です。",
    "verdict_collect_to_adapt_with_list": "単語リストを使い、あと {minutes} 分録音し、モデルを適応させてください。リストを使うと 100 "
    "語あたりの誤りは {after}、目標は {target} 以下です。",
    "verdict_adapt": "モデルを適応させてください。単語リストに効果はなく、100 語あたりの誤りは {rate} ({low} から {high}) です。",
    "verdict_adapt_with_list": "単語リストを使い、モデルを適応させてください。リストを使うと 100 語あたりの誤りは {after}、目標は {target} "
    "以下です。",
    "title": "音声認識の検査",
    "verdict": "判定",
    "folder": "フォルダー",
    "model": "モデル",
    "board": "コンピューター",
    "date": "日付",
    "errors": "100 語あたりの誤り",
    "errors_line": "{rate} (95 % 区間 {low} から {high}): 録音 {recordings} 件、{words} 語に誤り {errors}、{minutes} 分",
    "interval_note": "区間は同じ種類の別の録音での値の範囲です。録音を引き直して求め (ブートストラップ)、この語数でのウィルソンの区間より狭くしません。",
    "speed": "このコンピューターでの速さ",
    "speed_line": "音声 1 秒の処理に {rtf} 秒: 実時間の {times} 倍の速さ",
    "speed_slow": "音声 1 秒の処理に {rtf} 秒: 実時間より遅いので、小さいモデルを使ってください",
    "list": "単語リスト",
    "list_line": "録音 {recordings} 件で、100 語あたりの誤りはリストなし {before}、リストあり {after} (差 {low} から {high})",
    "list_chosen": "強さ {strength} は別の録音 {count} 件で選びました (名前順で 3 件ごと)。その録音はこの数値に含まれません。",
    "list_chosen_speakers": "強さ {strength} は別の話者の録音 {count} 件で選びました (3 人ごと)。その録音はこの数値に含まれません。",
    "list_default": "強さは標準の {strength} です。録音が少ないため選べません。",
    "list_left_out": "モデルが書けない語句: {phrases}",
    "list_not_said": "どの録音にもない語句: {phrases}",
    "phrase": "語句",
    "said_times": "発話",
    "found_before": "認識 (リストなし)",
    "found_after": "認識 (リストあり)",
    "false_alarms": "話していないのに認識",
    "missed": "認識されなかった言葉 (リストなし)",
    "missed_times": "認識されず",
    "worst": "誤りの多い録音",
    "said": "話した言葉",
    "recognised": "認識結果",
    "legend": "赤: 話したが認識されなかった。青: 話していないのに認識された。",
    "no_errors": "どの録音にも誤りはありません。",
    "player_linked": "再生にはフォルダーのファイルを使います。このページに音声は入っていません。--with-audio で入れられます。",
    "player_embedded": "このページには話者の声が入っています。録音と同じように保管し、消去してください。",
    "sound": "音量、雑音、音割れ",
    "sound_note": "最大値を 0 とした dB。帯は声のよい大きさです。",
    "recording": "録音",
    "length": "秒",
    "level": "声 dB",
    "noise": "雑音 dB",
    "snr": "差 dB",
    "clipping": "音割れ %",
    "advice": "対策",
    "no_advice": "対策は不要です。音量、雑音、音割れに問題はありません。",
    "advice_count": "録音 {count} 件: {advice}",
    "refused": "使わなかった録音",
    "reason": "理由",
    "none_refused": "すべての録音を使いました。",
    "changes": "変更したテキスト",
    "before": "元の表記",
    "after": "読み方",
    "changes_line": "{count} 件のテキストの数字、記号、タグを読み方に直しました",
    "errors_of": "{words} 語中 {errors}",
    "without_text": "テキストなし",
    "texts_hidden": "--texts で話した言葉と認識結果を表示します",
    "private": "このページには話者が話した言葉が入っています。",
    "counts": "使った録音 {used} 件 (テキストあり {texts} 件)、使わなかった録音 {refused} 件",
    "adapted_title": "この現場のモデル",
    "adapted_better": "{name} をインストールしてください。学習に使っていない録音で {model} より誤りが少なく、その差は偶然ではありません。",
    "adapted_kept": "{model} を使い続けてください。適応の効果は偶然と区別できません。録音と話者を増やすか、単語リストを試してください。",
    "adapted_forgot": "{model} を使い続けてください。適応したモデルは現場ではよくなりましたが、一般の音声で悪くなりすぎました。"
    "録音を増やすか、--max-general-loss で許してください。",
    "adapted_set": "学習に使わなかった録音",
    "adapted_before": "適応前",
    "adapted_after": "適応後",
    "adapted_difference": "差の 95 % 区間",
    "adapted_words": "語数",
    "adapted_line": "{set}: 適応前 {before}、適応後 {after} (差 {low} から {high}、録音 {recordings} 件、{words} 語)",
    "adapted_note": "区間は、録音を適応前後の誤りと組にして引き直して求めました (対応のあるブートストラップ)。0 を含まなければ差は偶然ではありません。",
    "adapted_choice": "選んだ重み",
    "adapted_step": "学習ステップ",
    "adapted_share": "元の重みからこのステップの重みまでの割合",
    "adapted_choice_note": "学習にも上の比較にも使わない、選択用の録音での百語あたりの誤りです。割合が小さいほど元の能力を忘れません。",
    "adapted_data": "データについて",
    "set_site": "現場の録音",
    "set_site_list": "現場の録音 (単語リストあり)",
    "set_noise": "現場の雑音を加えた一般の音声 (0 から 10 dB)",
    "set_general": "一般の音声",
}

TABLES = {"en": ENGLISH, "ja": JAPANESE}


class Strings:
    """The texts of one language.

    Args:
        language: a key of `TABLES`.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._table = TABLES[language]

    def text(self, key: str, **values: Any) -> str:
        """A text with its values."""
        return self._table[key].format(**values)

    def render(self, remark: Remark) -> str:
        """The text of a remark."""
        return self.text(remark.key, **remark.values)
