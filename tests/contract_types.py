"""For the type checker alone: the modules of every domain meet the Protocols of `core/contract/modules.py`."""

from pipelines.core.contract.modules import DataModule, ModelModule, ReportModule
from pipelines.fraud import data as fraud_data
from pipelines.fraud import model as fraud_model
from pipelines.fraud import report as fraud_report
from pipelines.medical_images import data as medical_images_data
from pipelines.medical_images import model as medical_images_model
from pipelines.medical_images import report as medical_images_report
from pipelines.speech_commands import data as speech_commands_data
from pipelines.speech_commands import model as speech_commands_model
from pipelines.speech_commands import report as speech_commands_report
from pipelines.stocks import data as stocks_data
from pipelines.stocks import model as stocks_model
from pipelines.stocks import report as stocks_report

fraud_data_meets: DataModule = fraud_data
medical_images_data_meets: DataModule = medical_images_data
speech_commands_data_meets: DataModule = speech_commands_data
stocks_data_meets: DataModule = stocks_data
fraud_model_meets: ModelModule = fraud_model
medical_images_model_meets: ModelModule = medical_images_model
speech_commands_model_meets: ModelModule = speech_commands_model
stocks_model_meets: ModelModule = stocks_model
fraud_report_meets: ReportModule = fraud_report
medical_images_report_meets: ReportModule = medical_images_report
speech_commands_report_meets: ReportModule = speech_commands_report
stocks_report_meets: ReportModule = stocks_report
